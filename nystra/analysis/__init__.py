"""Errors of kernels, in theory and in fact, the rank of attention, and the choice of kernels by them."""

from nystra.analysis.bounds import NystromError, SiteBound, nystrom_error, site_bounds
from nystra.analysis.kernel_error import kernel_error
from nystra.analysis.looking import Look, look
from nystra.analysis.plan import Choice, Plan
from nystra.analysis.planning import plan
from nystra.analysis.spectrum import WindowSpectrum, window_spectra
from nystra.analysis.weights import attention_weights

__all__ = [
    "Choice",
    "Look",
    "NystromError",
    "Plan",
    "SiteBound",
    "WindowSpectrum",
    "attention_weights",
    "kernel_error",
    "look",
    "nystrom_error",
    "plan",
    "site_bounds",
    "window_spectra",
]
