"""finrank: choose the right answer to a question about a financial report from a pool of candidates."""
