"""Sections on how the results were made, and what they do not say."""
