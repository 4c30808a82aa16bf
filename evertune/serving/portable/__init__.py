"""Copied into every bundle; imports nothing of Evertune."""
