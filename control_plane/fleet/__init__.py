"""What should run, and the loop that makes it so."""
