"""One pretraining run: batches, the loop, optimisers, checkpoints, the run folder."""
