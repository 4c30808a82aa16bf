"""Registered versions: logged, checked in a fresh process, read back."""
