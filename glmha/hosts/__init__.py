"""Channel-attention networks, one architecture a file, with the rule that infers its arguments."""

from glmha.hosts.mst import MST, RGBMST, RealMST
from glmha.hosts.mst_plus_plus import CassiMSTPlusPlus, MSTPlusPlus
from glmha.hosts.restormer import Restormer

__all__ = ["MST", "RGBMST", "CassiMSTPlusPlus", "MSTPlusPlus", "RealMST", "Restormer"]
