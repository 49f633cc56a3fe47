"""Weights of other libraries in, models for other programs out."""
