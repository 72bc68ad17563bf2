"""What a detector is made of that no framework decides: its stages, and the module of its variant."""
