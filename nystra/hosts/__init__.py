"""Window-attention networks, one architecture a file, under their released keys."""
