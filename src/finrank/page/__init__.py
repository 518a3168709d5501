"""Report pages: their numbers, the numbers' labels, and which rows and sentences matter to a question."""
