"""Options and values of recipes: what is taken, and how the rest is refused."""
