"""Log-probabilities: padded batches, and prefix sharing."""
