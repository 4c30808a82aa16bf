"""One module for each HTML page."""
