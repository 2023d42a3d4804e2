"""Learned low-rank channel attention (GLMHA) and the hosts that it goes into."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
