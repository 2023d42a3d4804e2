"""How a family of hosts stores and applies channel attention."""

from glmha.conventions.base import AttentionModule, Calibrate, Convention
from glmha.conventions.mst import MSTConvention
from glmha.conventions.restormer import RestormerConvention

__all__ = ["AttentionModule", "Calibrate", "Convention", "MSTConvention", "RestormerConvention"]
