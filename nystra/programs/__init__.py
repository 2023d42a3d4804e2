"""Native programs of kernels: the same products as plain torch, which stays the reference and the fallback."""
