"""Kernels on genuine weights, and on queries, keys and values of a trained network; skipped where these are absent."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import nystra
from datamodules.files.images import read_image, to_tensor
from nystra.windows import Cut
from nystra.windows.geometry import WindowGeometry
from trainers.metrics import psnr
from trainers.networks import in_unit_range

DATA = Path(__file__).parents[3] / "../shared/data"
WEIGHTS = DATA / "dehazing/dehazeformer-t.pth"
QUERIES = DATA / "window_attention/mobilesr_x4.safetensors"


@pytest.mark.skipif(not WEIGHTS.exists(), reason=f"needs released weights and images in {WEIGHTS.parent}")
def test_a_released_model_keeps_its_output():
    net = nystra.load_pretrained(WEIGHTS)
    hazy = to_tensor(read_image(WEIGHTS.parent / "SOTS-indoor/hazy/1400_3.png"))[None, :, 100:356, 200:456]
    # Decibels of fidelity to exact attention on this crop; those of whole images are in docs/results/kernels.md.
    floors = {
        nystra.ContentPooling(): 62,
        nystra.LandmarkPooling(): 55,
        nystra.LandmarkPooling(4, 16): 52,
        nystra.Nystrom(): 46,
        nystra.Nystromformer(): 38,
    }
    with torch.inference_mode():
        exact = in_unit_range(net, hazy)
        fidelities = {}
        for kernel in (*floors, nystra.Nystrom.as_published()):
            nystra.substitute(net, kernel)
            output = in_unit_range(net, hazy)
            fidelities[kernel] = psnr(output, exact.clamp(0, 1), space="rgb", border=0, quantise=False).item()
    print({str(kernel): round(value, 1) for kernel, value in fidelities.items()})
    for kernel, floor in floors.items():
        assert fidelities[kernel] >= floor
    # The authors' arithmetic drops the bias that these weights were trained with.
    assert fidelities[nystra.Nystrom.as_published()] < 35


@pytest.mark.skipif(not QUERIES.exists(), reason=f"needs {QUERIES}")
@pytest.mark.parametrize(
    ("kernel", "errors"),
    [
        (nystra.LandmarkPooling(), {8: 0.084, 16: 0.163, 32: 0.206}),
        (nystra.ContentPooling(), {8: 0.018, 16: 0.031, 32: 0.036}),
        (nystra.ContentPooling(8, 16, 3), {8: 0.037}),
        (nystra.ContentPooling(16, 32, 3), {16: 0.035}),
        (nystra.ContentPooling(16, 64, 8), {32: 0.036}),
        (nystra.LandmarkPooling(16, 16, "own"), {8: 0.120, 16: 0.231, 32: 0.312}),
        (nystra.Nystrom(), {8: 0.092, 16: 0.195, 32: 0.300}),
        (nystra.Nystromformer(), {8: 0.13, 16: 0.21, 32: 0.32}),
        (nystra.Nystrom.as_published(16, 6), {8: 0.41, 16: 0.51, 32: 0.53}),
    ],
    ids=str,
)
def test_errors_without_position_bias_are_the_recorded_ones(kernel, errors):
    features = [tensor.float() for tensor in load_file(QUERIES).values()]
    for side, recorded in errors.items():
        found = []
        for feature in features:
            windows = Cut(tuple(feature.shape[:2]), (side, side)).windows(feature[None])
            query, key, value = windows.permute(2, 0, 3, 1, 4)
            query, geometry = query * feature.shape[-1] ** -0.5, WindowGeometry((side, side))
            exact = nystra.Softmax()(query, key, value, geometry)
            found.append((kernel(query, key, value, geometry) - exact).norm() / exact.norm())
        assert torch.stack(found).mean() == pytest.approx(recorded, rel=0.06)
