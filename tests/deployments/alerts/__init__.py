"""Alerts on a real Prefect server."""
