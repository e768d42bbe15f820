"""Tests of recognised pages."""
