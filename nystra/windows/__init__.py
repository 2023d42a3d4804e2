"""Where tokens lie in a window, and which of them may see each other."""

from nystra.windows.geometry import WindowGeometry, WindowKind

__all__ = ["WindowGeometry", "WindowKind"]
