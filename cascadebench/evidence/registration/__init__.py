"""What a study registers before it trains, and whether the question of a verdict was registered so."""
