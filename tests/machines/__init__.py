"""More than one machine: Prefect on PostgreSQL and Redis with two API servers, and workers that share a place."""
