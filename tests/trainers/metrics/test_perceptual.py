"""LPIPS, DISTS and NIQE: refused with the remedy without their packages, one value an image with them."""

import sys
import types

import pytest
import torch
from torch import Tensor
from torchmetrics import Metric

from trainers.metrics import DISTS, LPIPS, NIQE
from trainers.metrics.learned import perceptual


@pytest.mark.parametrize(("kind", "package"), [(LPIPS, "torchvision"), (DISTS, "torchvision"), (NIQE, "pyiqa")])
def test_what_is_not_installed_is_named_with_the_remedy(monkeypatch, kind, package):
    monkeypatch.setattr(perceptual, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=f"needs {package}, which is not installed: pip install {package}"):
        kind()


class Largest(Metric):
    """A stand-in for torchmetrics' metrics: the largest difference of all updates since the last reset."""

    made = 0
    largest: Tensor

    def __init__(self, *_, **__):
        super().__init__()
        type(self).made += 1
        self.add_state("largest", torch.zeros(()), dist_reduce_fx="max")

    def update(self, preds, target):
        assert preds.shape[1] == 3
        self.largest = torch.maximum(self.largest, (preds - target).abs().amax())

    def compute(self):
        return self.largest


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.setattr(perceptual, "find_spec", lambda name: name)
    import torchmetrics.image

    for name in ("LearnedPerceptualImagePatchSimilarity", "DeepImageStructureAndTextureSimilarity"):
        monkeypatch.setattr(torchmetrics.image, name, Largest, raising=False)
    niqe = types.SimpleNamespace(create_metric=lambda name, device: lambda pred: pred.amax().reshape(1, 1))
    monkeypatch.setitem(sys.modules, "pyiqa", niqe)
    Largest.made = 0


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", [LPIPS, DISTS])
def test_each_image_has_its_own_value_by_one_network(installed, kind, channels):
    target = torch.zeros(2, channels, 32, 40)
    preds = target + torch.tensor([0.5, 0.25]).view(2, 1, 1, 1)
    metric = kind()
    assert metric.measure(preds, target).tolist() == [0.5, 0.25]
    metric.update(preds[1:], target[1:])
    assert metric.compute().item() == 0.25
    assert Largest.made == 1
    assert not metric.state_dict()
    assert not metric.higher_is_better


def test_niqe_looks_at_the_restored_image_alone(installed):
    preds = torch.full((1, 3, 96, 96), 1.5)
    assert NIQE().measure(preds, torch.zeros_like(preds)).tolist() == [1.0]
    with pytest.raises(ValueError, match="at least 96"):
        NIQE().measure(preds[..., 1:], torch.zeros_like(preds)[..., 1:])
