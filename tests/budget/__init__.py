"""Tests of meters and of the gate."""
