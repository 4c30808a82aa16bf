"""Past rows replayed under several retraining policies."""
