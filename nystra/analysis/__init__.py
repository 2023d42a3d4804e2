"""Errors of kernels, in theory and in fact, and the choice of kernels by them."""

from nystra.analysis.bounds import NystromError, SiteBound, nystrom_error, site_bounds
from nystra.analysis.kernel_error import kernel_error
from nystra.analysis.plan import Choice, Plan
from nystra.analysis.planning import plan

__all__ = ["Choice", "NystromError", "Plan", "SiteBound", "kernel_error", "nystrom_error", "plan", "site_bounds"]
