"""A run's objects do each of their things once, on fixed pictures and from fixed weights; what comes out is noted."""
