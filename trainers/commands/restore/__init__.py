"""`lowrank restore`: images of any size through a checkpoint."""
