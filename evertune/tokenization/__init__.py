"""From a snapshot to token files."""
