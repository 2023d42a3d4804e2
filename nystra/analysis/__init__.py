"""How far a kernel is off, in theory and in fact, and which one to take."""

from nystra.analysis.bounds import NystromError, SiteBound, nystrom_error, site_bounds
from nystra.analysis.kernel_error import kernel_error
from nystra.analysis.planning import Choice, Plan, plan

__all__ = ["Choice", "NystromError", "Plan", "SiteBound", "kernel_error", "nystrom_error", "plan", "site_bounds"]
