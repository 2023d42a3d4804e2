"""Programs for graphics processors, in Triton."""
