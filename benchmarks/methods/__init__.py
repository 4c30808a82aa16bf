"""Ways of tuning, compared."""
