"""A training session: seeds, batches, processes, log and checkpoints."""
