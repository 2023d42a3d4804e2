"""Averaged weights."""

from lightning.pytorch.callbacks import EMAWeightAveraging


def weight_averaging(decay: float) -> EMAWeightAveraging:
    """Make the callback that averages the weights over training, validates the average and keeps it in checkpoints.

    Args:
        decay: weight of the former average at each step, 0 < decay < 1.

    Raises:
        ValueError: if it is out of range.
    """
    if not 0 < decay < 1:
        raise ValueError(f"ema_decay ({decay}) must be above 0 and below 1; 0.999 is usual")
    # Buffers of the networks are tables of positions, which averaging would round.
    return EMAWeightAveraging(decay=decay, use_buffers=False)
