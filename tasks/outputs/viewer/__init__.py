"""A result beside the pictures of its pages, in a browser: one file for everybody, or served on this machine."""
