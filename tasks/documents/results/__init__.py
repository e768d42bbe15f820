"""Recognised pages: reading batches, merging them, and reading results."""
