"""Audit of versions and rows: trace, reproduce, forget, and remove what is no longer needed."""
