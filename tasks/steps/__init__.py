"""The steps the flows are made of. Plain functions; no Prefect."""
