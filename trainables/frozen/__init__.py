"""What of a model is frozen, and the same for every step, epoch, seed and trial: found, computed once, and kept."""
