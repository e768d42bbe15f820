"""Prints what pyproject.toml asks for, with the extras named as arguments, one requirement a line.

The Dockerfile installs these in a layer of their own, which a change of the program leaves as it is.
"""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
requirements = [
    *project["dependencies"],
    *(line for extra in sys.argv[1:] for line in project["optional-dependencies"][extra]),
]
print(*requirements, sep="\n")
