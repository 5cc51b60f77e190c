"""What is found: files, variables, the output of commands."""
