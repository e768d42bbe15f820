"""Makes `prefect.yaml` of the list of places: `python -m deployments.render [--environment NAME] [--check]`."""
