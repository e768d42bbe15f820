"""The local stack: everything bulk-ocr needs, on loopback, from pip-installed parts."""
