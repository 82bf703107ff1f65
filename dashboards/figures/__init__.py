"""One figure a module: its numbers first, then a chart of them."""
