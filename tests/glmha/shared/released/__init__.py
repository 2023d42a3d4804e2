"""Tests of checkpoints by name and by address."""
