from .adoption.adopt import AdoptionReport as AdoptionReport
from .adoption.adopt import adopt as adopt
from .adoption.adopt import release as release
from .adoption.attend import attend as attend
from .analysis.plan import Plan as Plan
from .analysis.planning import plan as plan
from .hosts.dehazeformer.network import DehazeFormer as DehazeFormer
from .hosts.rvrt.network import RVRT as RVRT
from .hosts.swinir.network import SwinIR as SwinIR
from .hosts.uformer.network import Uformer as Uformer
from .kernels.base import Kernel as Kernel
from .kernels.content_pooling import ContentPooling as ContentPooling
from .kernels.landmark_pooling import LandmarkPooling as LandmarkPooling
from .kernels.nystrom import Nystrom as Nystrom
from .kernels.nystromformer import Nystromformer as Nystromformer
from .kernels.performer import Performer as Performer
from .kernels.pnp_nystra import PrintedNystrom as PrintedNystrom
from .kernels.pnp_nystra import PublishedNystrom as PublishedNystrom
from .kernels.softmax import Softmax as Softmax
from .pretrained import load_pretrained as load_pretrained
from .sites.substitution import SubstitutionReport as SubstitutionReport
from .sites.substitution import find_sites as find_sites
from .sites.substitution import substitute as substitute
from .windows.geometry import WindowGeometry as WindowGeometry

__all__ = [
    "RVRT",
    "AdoptionReport",
    "ContentPooling",
    "DehazeFormer",
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
    "SwinIR",
    "Uformer",
    "WindowGeometry",
    "adopt",
    "attend",
    "find_sites",
    "load_pretrained",
    "plan",
    "release",
    "substitute",
]
