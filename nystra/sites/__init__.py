"""Attention modules whose kernel can be exchanged, and the exchange."""

from nystra.sites.site import AttendedMap, BiasMode, WindowAttention
from nystra.sites.substitution import SubstitutionReport, find_sites, substitute

__all__ = ["AttendedMap", "BiasMode", "SubstitutionReport", "WindowAttention", "find_sites", "substitute"]
