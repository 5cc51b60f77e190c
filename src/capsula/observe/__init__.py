"""What is told about runs afterwards."""
