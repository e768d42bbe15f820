"""What people do with results: searchable PDFs and other outputs, made from a result and its document."""
