"""Alerts as code: automations of a Prefect server, made and kept up to date by `python -m deployments.alerts`."""
