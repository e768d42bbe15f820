"""Tests of what `deployments/` holds: the local stack, alerts, manifests, policies."""
