"""How well unusual label noise is noticed."""
