"""Names that only outsiders use: vulture reads this file as code that uses them, one line each with the reason."""
