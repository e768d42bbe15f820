"""The catalogue: one row for each document in a ledger, derived from the records and rebuilt at any time."""
