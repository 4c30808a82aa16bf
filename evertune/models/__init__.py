"""Shapes of small models, each a folder with a `config.json` and no weights: a training from it starts at random."""
