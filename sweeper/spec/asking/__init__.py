"""What a person asks of a search: points to be tried, and what they mean in its space."""
