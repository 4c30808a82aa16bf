"""The gate's error rates, by simulation."""
