"""One module per variant: ``configure(node, run)`` changes the base configuration."""
