"""Bootstrap intervals of AP, of gaps and of crossings."""
