"""Prose, tables and pictures as plain data, and what writes them out."""
