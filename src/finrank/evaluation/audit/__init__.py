"""What pools give away to attackers that read neither question nor page."""
