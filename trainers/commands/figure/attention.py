"""`lowrank figure attention`: where a query looks, exactly and by every kernel."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nystra
from glmha.shared.image_network import image_rules
from nystra.analysis.looking import look
from trainers.commands.analyze.crops import central_crop
from trainers.commands.compare.variants import KERNELS
from trainers.commands.figure.output import tell
from trainers.figures.attention import draw_attention
from trainers.figures.style import Drawing
from trainers.networks import input_channels, load_network


def figure_attention(
    image: list[Path],
    *,
    pretrained: str | Path,
    network: str | None = None,
    window_size: int | None = None,
    kernels: Sequence[nystra.Kernel] | None = None,
    site: str | None = None,
    pixel: tuple[int, int] | None = None,
    heads: Sequence[int] | None = None,
    size: int | None = 256,
    output: Path = Path("logs/figures/attention"),
) -> Drawing:
    """Draw where the query under a pixel looks in its window, over the picture (PnP-Nystra, Fig. 4).

    Args:
        image: file of one image.
        pretrained: checkpoint, as released or as trained here: a file, a name of `lowrank models`, or an address
            (https://…, hf://OWNER/NAME).
        network: function or class that makes a network of another library, as package.module:name; null: a network of
            this package, which the checkpoint tells.
        window_size: side of the windows that a network of this package attends in; null: as recorded, else as trained.
        kernels: beside exact attention; null: ContentPooling, LandmarkPooling, Nystrom and Nystromformer as they come.
        site: name of the attention, or a pattern of which the first match is taken; null: the last one.
        pixel: row and column in the crop; null: its middle.
        heads: numbers of the heads that are drawn, from 1; null: all.
        size: side in pixels of the central crop that the network sees; null: the whole image.
        output: name of the files: PDF, PNG and CSV; their folder is made if it is missing.

    Returns:
        The figure, and how far the weights are apart.

    Raises:
        DataError: if the image is missing or cannot be read.
        ValueError: if the checkpoint, the site, the pixel, a head or a kernel does not fit, or images are several.
    """
    if len(image) != 1:
        raise ValueError(f"image ({', '.join(map(str, image))}) must be one file, got {len(image)}")
    options: dict[str, Any] = {} if window_size is None else {"window_size": window_size}
    net = load_network(pretrained, network, **options)
    rules = image_rules(net)
    low, high = rules.value_range
    crop = central_crop(image[0], input_channels(net), size, rules.size_multiple)
    names = list(nystra.find_sites(net, site))
    name = names[-1 if site is None else 0]
    place = (crop.shape[2] // 2, crop.shape[3] // 2) if pixel is None else pixel
    seen = look(net, crop * (high - low) + low, place, KERNELS if kernels is None else kernels, site=name)
    count = len(seen.exact)
    chosen = list(range(1, count + 1)) if heads is None else list(heads)
    if not chosen or not all(1 <= head <= count for head in chosen):
        raise ValueError(f"heads ({chosen}) must be numbers from 1 to {count} of {name}")
    drawing = draw_attention(
        ((seen.picture - low) / (high - low)).clamp(0, 1),
        seen.token,
        seen.exact,
        {str(kernel): weights for kernel, weights in seen.kernels.items()},
        heads=chosen,
        title=f"{image[0].name}, {name}, pixel {place}",
    )
    tell(drawing, output)
    return drawing
