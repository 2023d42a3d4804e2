"""Demands of a network on images: multiples, sizes and the range of values that it takes; the scale of its results."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from torch import nn


@dataclasses.dataclass(frozen=True)
class ImageRules:
    """Demands of a network on images, and the scale of its results.

    Attributes:
        size_multiple: what an image's height and width must be multiples of, >= 1.
        scale: output pixels per input pixel along each axis, >= 1.
        value_range: the network's values for black and white.
        frame_multiple: what a clip's number of frames must be a multiple of; 0: the network takes single images.
        takes: whether the network takes images of a height (width) that is a multiple of `size_multiple`; None: it
            takes all multiples.
        largest_side: largest height and width that the network takes; None: any.

    Examples:
        >>> from glmha.shared.image_network import ImageRules
        >>> rules = ImageRules(size_multiple=8)
        >>> rules.scale, rules.fits(64), rules.fits(60)
        (1, True, False)
    """

    size_multiple: int = 1
    scale: int = 1
    value_range: tuple[float, float] = (0.0, 1.0)
    takes: Callable[[int], bool] | None = None
    frame_multiple: int = 0
    largest_side: int | None = None

    def fits(self, side: int) -> bool:
        """Return whether images of this height (width) go into the network as they are."""
        return side % self.size_multiple == 0 and (self.takes is None or self.takes(side))


STATED = "_image_rules"
"""Attribute of a network of another library that holds what was found out about it."""


def image_rules(net: nn.Module) -> ImageRules:
    """Read a network's demands from its attributes of the same names; what it does not state is as by default.

    Attributes of another library's network may mean something else: what was found out about it counts (`STATED`).

    Args:
        net: any network from images to images, or from clips to clips, of this package or another.

    Returns:
        The rules at this moment: a network whose windows are set anew may take other sizes then.

    Examples:
        >>> from glmha import Restormer
        >>> from glmha.shared.image_network import image_rules
        >>> net = Restormer(dim=8, num_blocks=(1, 1, 1, 1), num_refinement_blocks=1)
        >>> image_rules(net).size_multiple
        8
    """
    found = vars(net).get(STATED)
    if isinstance(found, ImageRules):
        return found
    stated = {rule.name: getattr(net, rule.name) for rule in dataclasses.fields(ImageRules) if hasattr(net, rule.name)}
    return ImageRules(**stated)
