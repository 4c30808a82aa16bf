"""Both models on the same rows."""
