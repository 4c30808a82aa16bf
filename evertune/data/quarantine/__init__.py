"""The refused rows of a recipe, and how mended ones come back."""
