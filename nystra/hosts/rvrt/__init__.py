"""RVRT: recurrent video restoration by windows over frames and guided deformable attention (Liang et al., 2022)."""

from nystra.hosts.rvrt.network import RVRT

__all__ = ["RVRT"]
