"""Measurements: `make bench` runs them all, `make bench NAME=quality` one. None of them is a test."""
