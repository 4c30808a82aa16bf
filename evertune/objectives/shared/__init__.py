"""What several objectives use; it travels in bundles with them."""
