"""A point of the front in the hand: its folder, its card, its audit."""
