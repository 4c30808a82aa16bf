"""Taking in large files."""
