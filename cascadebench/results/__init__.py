"""The folder of results: where its files lie, how far a run has come, and how its tables are written."""
