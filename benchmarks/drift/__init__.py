"""How often drift is found, and found wrongly."""
