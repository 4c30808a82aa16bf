"""The accepted rows of a recipe, a versioned Delta table."""
