"""Training-free substitution of softmax window attention; its parts arrive with the window hosts."""
