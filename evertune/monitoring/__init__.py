"""Drift of rows and predictions, and when it starts a retraining."""
