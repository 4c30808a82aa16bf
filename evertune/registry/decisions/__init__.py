"""The ledger of decisions, and the moves of the champion alias."""
