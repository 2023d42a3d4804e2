"""Windows of feature maps as the programs read them: in place, by strides."""

import ctypes

from torch import Tensor

from nystra.windows.geometry import WindowGeometry

Pair = ctypes.c_int64 * 2


class Map(ctypes.Structure):
    """Address and strides of a feature map (B, H, W, heads, d), see `source/maps.h`."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("image", ctypes.c_int64),
        ("row", ctypes.c_int64),
        ("column", ctypes.c_int64),
        ("head", ctypes.c_int64),
    )

    @classmethod
    def of(cls, maps: Tensor) -> "Map":
        """Describe maps whose channels lie side by side; they must outlive the result."""
        return cls(maps.data_ptr(), *maps.stride()[:4])


class Windows(ctypes.Structure):
    """The cut of feature maps into windows, see `source/maps.h`."""

    _fields_ = (
        ("images", ctypes.c_int64),
        ("height", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("heads", ctypes.c_int64),
        ("channels", ctypes.c_int64),
        ("window", Pair),
        ("shift", Pair),
        ("grid", Pair),
    )


def as_maps(windows: Tensor, geometry: WindowGeometry) -> Tensor:
    """View windows (W, h, N, d), row by row, as maps of one window each: (W, h_w, w_w, h, d)."""
    return windows.unflatten(2, geometry.window).permute(0, 2, 3, 1, 4)


def as_windows(maps: Tensor) -> Tensor:
    """Undo `as_maps`."""
    return maps.flatten(1, 2).transpose(1, 2)


def with_dense_channels(maps: Tensor) -> Tensor:
    """Maps whose channels lie side by side: themselves, as those of every host do, or a copy."""
    return maps if maps.stride(-1) == 1 else maps.contiguous()
