"""Checkpoints by name and by address: the table of released ones, the download, the cache."""
