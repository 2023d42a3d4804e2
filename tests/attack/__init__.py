"""Hostile files and options: nothing is executed, nothing is taken silently, and one message says what is wrong."""
