"""Generates `prefect.yaml` from the list of places: `python -m deployments.render [--environment NAME] [--check]`."""
