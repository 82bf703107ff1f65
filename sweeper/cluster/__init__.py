"""Somebody else's machines: the cluster file, its rules, the head and its jobs."""
