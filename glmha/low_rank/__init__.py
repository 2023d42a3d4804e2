"""GLMHA and its closed-form start from dense weights."""

from glmha.low_rank.glmha import GLMHA

__all__ = ["GLMHA"]
