"""What was asked: options from four places."""
