"""Which rows are accepted, and why the others are not."""
