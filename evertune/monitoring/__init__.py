"""Drift of rows and predictions, and the triggers that start a retraining."""
