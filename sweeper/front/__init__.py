"""What is better: dominance, rules of choice, uncertainty. Pure functions of numbers."""
