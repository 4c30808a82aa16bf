"""Evertune: continuous fine-tuning that never ships a worse model."""

__version__ = "0.1.0"
