"""A run's record: what it is, whether it lives, what it differs in, how to go on."""
