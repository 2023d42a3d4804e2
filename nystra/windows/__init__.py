"""Windows of tokens: places in them, groups of them, position bias, and which tokens may see each other."""

from nystra.windows.geometry import WindowGeometry, WindowKind
from nystra.windows.partition import Cut

__all__ = ["Cut", "WindowGeometry", "WindowKind"]
