"""Makes blocks that hold credentials, of the environment: `python -m deployments.credentials NAME [--aws NAME]`."""
