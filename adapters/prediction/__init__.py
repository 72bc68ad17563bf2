"""One pass over the images: every test stage, proposals, and what the diagnostics read."""
