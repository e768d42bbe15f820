"""Saves credentials from the environment as blocks: `python -m deployments.credentials NAME [--aws NAME]`."""
