"""Alerts as code: automations of a Prefect server, created and updated by `python -m deployments.alerts`."""
