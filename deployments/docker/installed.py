"""Prints the packages installed for this Python, one requirement a line. `make sbom` runs it inside an image."""

from importlib.metadata import distributions

print(*sorted(f"{found.name}=={found.version}" for found in distributions()), sep="\n")
