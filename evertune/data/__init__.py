"""From external rows to a snapshot: sources, contract, splits, corpus and quarantine."""
