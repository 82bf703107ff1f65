"""One fit, epoch by epoch: batches, optimiser, schedule, checkpoint."""
