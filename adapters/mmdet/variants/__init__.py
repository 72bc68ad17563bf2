"""One module per variant: ``configure(config, run)`` changes the base configuration."""
