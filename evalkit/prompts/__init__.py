"""From rows to what a model is asked."""
