"""Prints the requirements in pyproject.toml and of the extras named as arguments, one a line.

The Dockerfile installs them in a separate layer, which does not change with the program.
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
