"""Tests of the catalogue, over a ledger in a folder."""
