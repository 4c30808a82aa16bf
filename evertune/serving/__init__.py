"""The model bundle, and batch scoring with it."""
