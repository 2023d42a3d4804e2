"""Checkpoints that are complete or absent, found again, and the end of a run on a signal."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
