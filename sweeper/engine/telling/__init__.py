"""What others are told of a sweep: people how it ended, Prometheus where it stands."""
