"""Hostile input: keys, documents, answers and addresses that somebody made to break us."""
