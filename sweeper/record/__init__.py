"""The MLflow record, written for people and never read for control."""
