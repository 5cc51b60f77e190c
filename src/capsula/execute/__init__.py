"""Running the command."""
