"""Tests of how a flow runs."""
