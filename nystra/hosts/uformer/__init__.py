"""Uformer: a U-shaped transformer (Wang et al., 2022)."""

from nystra.hosts.uformer.network import Uformer

__all__ = ["Uformer"]
