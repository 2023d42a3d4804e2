"""How the process treats memory that tensors have freed."""

import ctypes

# Options of the C library's `mallopt`, and the bytes that they are set to: what may be free at the heap's end without
# being returned, and the size from which a tensor has a mapping of its own, the largest that the library would choose.
TRIM_THRESHOLD, MAPPING_THRESHOLD = -1, -3
TRIMMED, MAPPED = 1 << 30, 1 << 25


def keep_freed_memory() -> None:
    """Keep the memory of freed tensors for the next ones, where the C library is glibc.

    It would give them back to the system again and again, and the system clears each page anew: a twentieth of
    restoring a photograph with DehazeFormer-T, a fifth of its forward pass on a map of 256×256.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(TRIM_THRESHOLD, TRIMMED)
    mallopt(MAPPING_THRESHOLD, MAPPED)
