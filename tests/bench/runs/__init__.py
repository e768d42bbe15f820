"""Whole runs beside a plain script of the same calls: documents a second, processor time, calls, rows, memory."""
