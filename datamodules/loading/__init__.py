"""The order of training samples, which is the same after an interruption."""

from datamodules.loading.stages import Stage

__all__ = ["Stage"]
