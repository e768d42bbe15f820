"""How much memory merging takes, and how fast it is: `python -m tests.bench`."""
