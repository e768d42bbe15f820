"""Where secrets come from: the environment, or blocks at the Prefect server."""
