"""`lowrank bench`: time and memory, side by side in one run."""
