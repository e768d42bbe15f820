"""Backfills as objects in the ledger: their record, its changes, their store, and the figures shown of them."""
