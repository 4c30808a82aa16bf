"""A person's rows, removed from everything that is kept, and kept out."""
