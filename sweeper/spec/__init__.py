"""The question, as written in `sweep.yaml`."""
