"""Sample corpora that ship with Evertune, written by code, so that examples and tests need no download."""
