"""Photographs, one published data set a file: layout, counts, parts, crops."""
