"""Training methods and regularisers beyond plain gradient descent."""
