"""Scores of test sets: collected, averaged, written with where they come from."""
