"""What the embedded model is made of: a closed world, exercises in four skills, a tokenizer and a training loop."""
