"""Generators of hostile inputs, which the tests of `tests/attack` and the long campaign draw from."""
