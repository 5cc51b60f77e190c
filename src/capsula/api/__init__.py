"""What programs call, and the steps of a recorded run that they share with the command line."""
