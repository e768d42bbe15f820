"""The catalogue: one row for each document of a ledger, derived from its records and rebuilt at will."""
