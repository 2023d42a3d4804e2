"""Learned low-rank channel attention (GLMHA) and the hosts that it goes into."""

from glmha import complexity, spectrum
from glmha.attention import GLMHA, AttentionFactory, ChannelAttention
from glmha.comparisons import LinformerChannelAttention, PerformerChannelAttention, ReformerChannelAttention
from glmha.mst import MST, RGBMST, RealMST
from glmha.mst_plus_plus import CassiMSTPlusPlus, MSTPlusPlus
from glmha.pretrained import CheckpointError, load_pretrained
from glmha.restormer import Restormer
from glmha.warm_start import convert

__all__ = [
    "GLMHA",
    "MST",
    "RGBMST",
    "AttentionFactory",
    "CassiMSTPlusPlus",
    "ChannelAttention",
    "CheckpointError",
    "LinformerChannelAttention",
    "MSTPlusPlus",
    "PerformerChannelAttention",
    "RealMST",
    "ReformerChannelAttention",
    "Restormer",
    "complexity",
    "convert",
    "load_pretrained",
    "spectrum",
]
