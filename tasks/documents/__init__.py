"""Documents: formats, page counts, page extraction, coverage and merging. Independent of Prefect and the network."""
