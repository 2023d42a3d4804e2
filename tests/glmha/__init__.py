"""Tests of glmha."""
