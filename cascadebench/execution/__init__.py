"""Planning runs, and what happens to them: failures, interruptions, sharing, provenance."""
