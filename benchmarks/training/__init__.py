"""The training loop beside other loops."""
