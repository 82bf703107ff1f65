"""Fits that one actor trains at once: which go together, how many, and what becomes of each."""
