"""Calibration vectors of GLMHA by input: which image makes which channel louder."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from trainers.figures.style import Drawing, new_figure, styled

_LONGEST_LABEL = 22


def draw_calibration(vectors: Mapping[str, Tensor], images: Sequence[str], *, title: str = "") -> Drawing:
    """Draw every block's calibration weights a of Eq. (4), a line for each image, a column for each channel.

    Channels are sorted by their mean over the images; red is louder (the channel enters keys and values with 1 + αa),
    blue softer. Beside each block stands how far the images are apart: the mean over its channels of the standard
    deviation over images. 0: the calibration is the same for every input.

    Args:
        vectors: block → weights in (-1, 1), (images, channels).
        images: their names.
        title: of the figure.

    Returns:
        The figure; in its rows the weight of every channel in every image.
    """
    most = max(float(weights.abs().max()) for weights in vectors.values()) or 1.0
    with styled():
        height = max(0.7, 0.16 * len(images) + 0.35)
        figure = new_figure(height * len(vectors) + 0.7)
        panels = figure.subplots(len(vectors), 1, squeeze=False)[:, 0]
        for axes, (name, weights) in zip(panels, vectors.items(), strict=True):
            order = weights.mean(0).argsort(descending=True)
            shown = axes.imshow(
                weights[:, order].numpy(), cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto", interpolation="nearest"
            )
            apart = float(weights.std(0, correction=0).mean())
            axes.set_title(f"{name}, {weights.shape[1]} channels, images apart by {apart:.3f}", fontsize=7, loc="left")
            axes.set_yticks(range(len(images)), [each[-_LONGEST_LABEL:] for each in images], fontsize=6)
            axes.set_xticks([])
        panels[-1].set_xlabel("channels, the loudest first")
        figure.colorbar(
            shown, ax=list(panels), label="calibration weight a", shrink=min(1.0, 3 / figure.get_figheight())
        )
        if title:
            figure.suptitle(title, fontsize=9)
    rows = [
        {"block": name, "image": image, "channel": channel, "weight": value}
        for name, weights in vectors.items()
        for image, row in zip(images, torch.unbind(weights), strict=True)
        for channel, value in enumerate(row.tolist())
    ]
    return Drawing(figure, rows)
