"""Perceptual metrics, which ask networks trained on photographs: LPIPS, DISTS and NIQE.

Their networks and weights are other people's, with licences of their own, and need torchvision, which this package does
not install. torchmetrics (LPIPS, DISTS) and pyiqa (NIQE) bring them.
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import ClassVar, Literal

import torch
from torch import Tensor

from trainers.metrics.base import ImageMetric, check_images

Measure = Callable[[Tensor, Tensor], Tensor]
"""Measures one pair of images (1, 3, H, W) in [0, 1]: a scalar."""


class PerceptualMetric(ImageMetric):
    """Base of metrics whose network is made, and whose weights are downloaded, when the first image is measured.

    Args:
        name: short name for a table's column.
        protocol: what is measured, in words.

    Attributes:
        needs: package → how to install it.
        smallest: rows and columns that an image must have.

    Raises:
        ValueError: if a package that it needs is not installed.
    """

    higher_is_better = False
    needs: ClassVar[dict[str, str]] = {"torchvision": "pip install torchvision, in the version that fits torch's"}
    smallest: ClassVar[int] = 32

    def __init__(self, name: str, protocol: str) -> None:
        super().__init__(name, protocol)
        for package, remedy in self.needs.items():
            if find_spec(package) is None:
                raise ValueError(f"metric {name} needs {package}, which is not installed: {remedy}")
        # Not registered as a sub-module: its weights would be converted and saved with the network's.
        self._made: list[Measure] = []

    def make(self) -> Measure:
        """Make the network."""
        raise NotImplementedError

    @torch.no_grad()
    def measure(self, preds: Tensor, target: Tensor) -> Tensor:
        """Measure each image.

        Args:
            preds: restored images, shape (B, C, H, W), C = 1 or 3; clamped to [0, 1]. Grey is given as three channels.
            target: ground truth, same shape.

        Returns:
            Shape (B,), float64.

        Raises:
            ValueError: if the tensors are no such images.
        """
        check_images(preds, target, smallest=self.smallest)
        if not self._made:
            self._made.append(self.make())
        pairs = zip(_colour(preds), _colour(target), strict=True)
        return torch.stack([self._made[0](pred[None], true[None]).double().reshape(()) for pred, true in pairs])


class LPIPS(PerceptualMetric):
    """Learned perceptual similarity of deep features (Zhang et al., CVPR 2018); lower is better.

    Args:
        network: whose features are compared; papers of restoration report alex.

    Raises:
        ValueError: if torchvision is not installed.

    Examples:
        >>> from trainers.metrics import LPIPS
        >>> LPIPS.higher_is_better
        False
    """

    def __init__(self, network: Literal["alex", "vgg", "squeeze"] = "alex") -> None:
        super().__init__("lpips", f"LPIPS, {network}, RGB in [0, 1], not rounded (torchmetrics)")
        self.network = network

    def make(self) -> Measure:
        """Make torchmetrics' network, whose weights torchvision downloads."""
        from torchmetrics.image import LearnedPerceptualImagePatchSimilarity

        return _forgetful(LearnedPerceptualImagePatchSimilarity(self.network, normalize=True))


class DISTS(PerceptualMetric):
    """Deep similarity of structure and texture (Ding et al., TPAMI 2020); lower is better.

    Raises:
        ValueError: if torchvision is not installed.

    Examples:
        >>> from trainers.metrics import DISTS
        >>> DISTS.higher_is_better
        False
    """

    def __init__(self) -> None:
        super().__init__("dists", "DISTS, RGB in [0, 1], not rounded (torchmetrics)")

    def make(self) -> Measure:
        """Make torchmetrics' network, whose weights torchvision downloads."""
        from torchmetrics.image import DeepImageStructureAndTextureSimilarity

        return _forgetful(DeepImageStructureAndTextureSimilarity())


class NIQE(PerceptualMetric):
    """Naturalness of the restored image alone (Mittal et al., 2013); lower is better. The target is not looked at.

    Raises:
        ValueError: if pyiqa is not installed.

    Examples:
        >>> from trainers.metrics import NIQE
        >>> NIQE.higher_is_better
        False
    """

    needs: ClassVar[dict[str, str]] = {"pyiqa": "pip install pyiqa (its licence is non-commercial)"}
    smallest: ClassVar[int] = 96

    def __init__(self) -> None:
        super().__init__("niqe", "NIQE, no reference, RGB in [0, 1], not rounded (pyiqa)")

    def make(self) -> Measure:
        """Make pyiqa's measure, whose statistics of natural images it downloads."""
        import pyiqa

        niqe = pyiqa.create_metric("niqe", device="cpu")
        return lambda pred, _: niqe(pred)


def _colour(images: Tensor) -> Tensor:
    return images.float().clamp(0, 1).expand(-1, 3, -1, -1)


def _forgetful(metric: Callable[[Tensor, Tensor], Tensor]) -> Measure:
    """Measure by a torchmetrics metric one image at a time."""

    def measure(pred: Tensor, target: Tensor) -> Tensor:
        value = metric(pred, target)
        metric.reset()  # type: ignore[attr-defined]  # each is a torchmetrics.Metric
        return value

    return measure
