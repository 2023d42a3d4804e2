"""Tasks: how a network is trained and evaluated."""
