"""The best values of a recipe's open fields."""
