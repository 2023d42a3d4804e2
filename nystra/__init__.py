"""Training-free substitution of softmax window attention by kernels of linear cost."""

from nystra.comparisons import Nystromformer, Performer
from nystra.content_pooling import ContentPooling
from nystra.geometry import WindowGeometry
from nystra.kernels import Kernel, Softmax
from nystra.landmark_pooling import LandmarkPooling
from nystra.nystrom import Nystrom, PrintedNystrom, PublishedNystrom
from nystra.plan import Plan, plan
from nystra.pretrained import load_pretrained
from nystra.substitute import SubstitutionReport, find_sites, substitute

__all__ = [
    "ContentPooling",
    "Kernel",
    "LandmarkPooling",
    "Nystrom",
    "Nystromformer",
    "Performer",
    "Plan",
    "PrintedNystrom",
    "PublishedNystrom",
    "Softmax",
    "SubstitutionReport",
    "WindowGeometry",
    "find_sites",
    "load_pretrained",
    "plan",
    "substitute",
]
