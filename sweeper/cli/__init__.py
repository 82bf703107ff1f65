"""What a person types: one module of commands for each topic, each with a `register`."""
