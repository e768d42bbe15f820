"""Tests of the documents room: formats, pages, coverage and merging."""
