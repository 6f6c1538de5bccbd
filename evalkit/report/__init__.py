"""Tables, reference values, comparisons and pictures."""
