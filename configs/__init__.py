"""Runnable recipes, found by name from the command line."""
