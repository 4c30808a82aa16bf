"""How readable the code and the documentation are, in numbers."""
