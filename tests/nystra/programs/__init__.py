"""Native programs against plain torch, which is their reference."""
