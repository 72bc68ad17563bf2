"""The sections of the report, a module or more for each."""
