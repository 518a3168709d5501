"""How good a scorer is: metrics, what it must beat, how sure the figures are, and the table."""
