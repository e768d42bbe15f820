"""What else one might run: the same work in a few lines, told fairly. Both skip documents that have a result."""
