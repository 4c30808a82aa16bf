"""Model bundles, and batch scoring with them."""
