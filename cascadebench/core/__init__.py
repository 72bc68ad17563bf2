"""Errors, files, configuration and leases: what every other package stands on."""
