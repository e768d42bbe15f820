"""Prints what the Python that runs this has installed, one requirement a line. For one inside an image: `make sbom`."""

from importlib.metadata import distributions

print(*sorted(f"{found.name}=={found.version}" for found in distributions()), sep="\n")
