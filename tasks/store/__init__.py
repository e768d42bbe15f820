"""S3: addresses, listing, conditional writes, results and the ledger. Knows nothing of Prefect or OCR."""
