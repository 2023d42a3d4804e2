"""RVRT in the published order of computation: its deformable attention, and the whole network."""

from tests.reference.rvrt.deformable import deform_attn
from tests.reference.rvrt.network import RVRT

__all__ = ["RVRT", "deform_attn"]
