"""The record in a browser, on this machine."""
