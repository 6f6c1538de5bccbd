"""Generation: padded batches, and continuous batching."""
