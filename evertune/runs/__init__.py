"""A run: whether there is anything to do, what it starts from, how its models compare, and how it ended."""
