"""The local stack: everything that bulk-ocr needs, on loopback, from pip-installed packages."""
