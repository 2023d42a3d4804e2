"""Window-attention networks, one family a folder, under their released keys."""
