"""SwinIR: residual Swin transformer blocks (Liang et al., 2021)."""

from nystra.hosts.swinir.network import SwinIR

__all__ = ["SwinIR"]
