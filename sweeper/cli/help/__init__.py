"""What the command line says of itself, and of its failures."""
