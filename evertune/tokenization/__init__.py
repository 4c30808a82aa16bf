"""Turns the rows of a snapshot into token files."""
