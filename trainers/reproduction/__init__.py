"""What the two papers published, as data, and the commands that measure the same here."""
