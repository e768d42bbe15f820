"""Documents: formats, page counts, page extraction, coverage and merging. Knows nothing of Prefect or the network."""
