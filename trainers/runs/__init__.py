"""Records of runs: state, progress, configuration, and the checkpoint to continue from."""
