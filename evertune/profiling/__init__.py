"""A first look at unknown rows, for `evertune new` and `evertune check`."""
