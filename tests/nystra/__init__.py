"""Tests of the training-free substitution."""
