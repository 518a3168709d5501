"""What pools reveal to attackers that read neither question nor page."""
