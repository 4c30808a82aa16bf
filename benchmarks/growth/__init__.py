"""A thousand days of history."""
