"""Rows from outside to a snapshot: sources, contract, splits, corpus and quarantine."""
