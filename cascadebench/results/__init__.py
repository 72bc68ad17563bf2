"""The folder of results: where its files lie and how far a run has come."""
