"""DehazeFormer: window attention with reflection padding for dehazing (Song et al., 2023)."""

from nystra.hosts.dehazeformer.network import DehazeFormer

__all__ = ["DehazeFormer"]
