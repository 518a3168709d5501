"""What a report page says: its numbers, their labels, and which rows and sentences matter to a question."""
