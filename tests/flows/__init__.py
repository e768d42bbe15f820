"""Tests of the flows and the command, on a real Prefect server."""
