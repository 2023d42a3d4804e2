"""Conventions: parameter names and projections of channel attention in a family of hosts."""

from glmha.conventions.base import AttentionModule, Calibrate, Convention
from glmha.conventions.mst import MSTConvention
from glmha.conventions.restormer import RestormerConvention

__all__ = ["AttentionModule", "Calibrate", "Convention", "MSTConvention", "RestormerConvention"]
