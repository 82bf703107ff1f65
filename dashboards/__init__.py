"""Tables to pictures. Knows nothing of how the numbers were made."""
