"""Inspect unknown rows, for `evertune new` and `evertune check`."""
