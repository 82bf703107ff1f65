"""What a sweep has found, as values: no drawing, no MLflow."""
