"""Ceilings on pages and money: meters in the ledger, and the gate that holds them against every POST."""
