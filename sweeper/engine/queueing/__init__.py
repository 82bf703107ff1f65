"""What a queue goes by: the memory that it asks, and the brake that stops it."""
