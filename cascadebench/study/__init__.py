"""A study, its protocol and its runs."""
