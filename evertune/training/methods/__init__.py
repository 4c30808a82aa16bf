"""Ways of tuning beside plain gradient descent."""
