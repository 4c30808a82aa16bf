"""What recipes reach on public data sets."""
