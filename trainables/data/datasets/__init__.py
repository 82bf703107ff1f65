"""The datasets of the papers, the embedded one, and any folder or table."""
