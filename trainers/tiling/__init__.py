"""Images of any size through a network, memory bounded by a tile."""

from trainers.tiling.restoration import restore

__all__ = ["restore"]
