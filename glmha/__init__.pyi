from . import complexity as complexity
from . import spectrum as spectrum
from .attention.base import ChannelAttention as ChannelAttention
from .attention.factories import AttentionFactory as AttentionFactory
from .attention.linformer import LinformerChannelAttention as LinformerChannelAttention
from .attention.performer import PerformerChannelAttention as PerformerChannelAttention
from .attention.reformer import ReformerChannelAttention as ReformerChannelAttention
from .hosts.mst import MST as MST
from .hosts.mst import RGBMST as RGBMST
from .hosts.mst import RealMST as RealMST
from .hosts.mst_plus_plus import CassiMSTPlusPlus as CassiMSTPlusPlus
from .hosts.mst_plus_plus import MSTPlusPlus as MSTPlusPlus
from .hosts.restormer import Restormer as Restormer
from .low_rank.glmha import GLMHA as GLMHA
from .out_of_core.network import OutOfCore as OutOfCore
from .pretrained import load_pretrained as load_pretrained
from .shared.checkpoint_files import CheckpointError as CheckpointError
from .warm_start import convert as convert

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
    "OutOfCore",
    "PerformerChannelAttention",
    "RealMST",
    "ReformerChannelAttention",
    "Restormer",
    "complexity",
    "convert",
    "load_pretrained",
    "spectrum",
]
