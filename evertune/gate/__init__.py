"""Decides whether a challenger replaces the champion."""
