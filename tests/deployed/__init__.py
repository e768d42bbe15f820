"""The pipeline as a team runs it: a Prefect server, a work pool, a worker, and schedules."""
