"""What several objectives share; the files that an objective imports travel in its bundles."""
