"""Kernels: small objects without parameters that make outputs of queries, keys and values."""

from nystra.kernels.base import Cost, Kernel
from nystra.kernels.content_pooling import ContentPooling
from nystra.kernels.landmark_pooling import LandmarkPooling
from nystra.kernels.nystrom import Nystrom
from nystra.kernels.nystromformer import Nystromformer
from nystra.kernels.performer import Performer
from nystra.kernels.pnp_nystra import PrintedNystrom, PublishedNystrom
from nystra.kernels.softmax import Softmax

__all__ = [
    "ContentPooling",
    "Cost",
    "Kernel",
    "LandmarkPooling",
    "Nystrom",
    "Nystromformer",
    "Performer",
    "PrintedNystrom",
    "PublishedNystrom",
    "Softmax",
]
