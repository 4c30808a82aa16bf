"""Which rows a model learns from, and which it is judged on."""
