"""Slow, literal transcriptions of published equations: what the packages are tested and timed against."""
