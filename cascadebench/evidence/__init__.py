"""Evidence: published values and claims as data, and what a study's measurements say about them."""
