"""Tests of documents and results."""
