"""Outputs derived from a result and its document: searchable PDFs, exports, search."""
