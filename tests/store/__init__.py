"""Tests of `tasks.store`."""
