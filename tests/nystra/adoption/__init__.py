"""Tests of nystra.adoption."""
