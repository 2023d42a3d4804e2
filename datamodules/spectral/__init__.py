"""Cubes: scenes and cameras of ARAD_1K, CAVE and KAIST."""
