"""Smaller or faster variants of a registered version."""
