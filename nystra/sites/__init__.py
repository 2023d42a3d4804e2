"""Attention modules whose kernel can be exchanged, and the exchange."""

from nystra.sites.host import WindowHost
from nystra.sites.site import AttendedMap, BiasMode, Site, WindowAttention, sites_of
from nystra.sites.substitution import SubstitutionReport, find_sites, substitute

__all__ = [
    "AttendedMap",
    "BiasMode",
    "Site",
    "SubstitutionReport",
    "WindowAttention",
    "WindowHost",
    "find_sites",
    "sites_of",
    "substitute",
]
