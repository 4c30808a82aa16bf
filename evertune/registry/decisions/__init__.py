"""The ledger of decisions, and the moves of aliases."""
