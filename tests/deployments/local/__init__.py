"""Tests of the local stack: real processes on loopback."""
