"""The Upstage OCR API: client, answers, errors and limits. Knows nothing of Prefect or S3."""
