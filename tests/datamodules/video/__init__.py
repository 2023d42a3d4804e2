"""Tests of the data sets of clips."""
