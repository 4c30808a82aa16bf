"""Retraining policies over many seeds."""
