"""Which sample comes when, the same after an interruption."""

from datamodules.loading.stages import Stage

__all__ = ["Stage"]
