"""Recognised pages: batches, merging, reading results."""
