"""Registered versions: how they are logged, checked in a fresh process, and read back."""
