"""Tests of the API room: client, answers, errors and limits."""
