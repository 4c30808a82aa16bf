"""Resampling, paired tests, two-sample tests: arrays in, numbers out."""
