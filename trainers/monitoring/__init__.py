"""Progress, curves and pictures of a run while it trains."""
