"""Outputs made elsewhere, in place of a model."""
