"""A chart drawn: plotly for the screen, matplotlib for paper."""
