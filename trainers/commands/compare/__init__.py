"""`lowrank compare`: a network under several kernels, side by side."""
