"""PSNR and SSIM against the papers' scripts, their definitions, and their behaviour as torchmetrics metrics."""

import json
import math
from datetime import timedelta
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from jsonargparse import auto_cli
from safetensors.torch import load_file
from torch import distributed, multiprocessing, nn
from torchmetrics import Metric, MetricCollection

from tests.reference import metrics as reference
from trainers.metrics import MRAE, PSNR, SSIM, BandSSIM, luma, psnr, psnr_b, ssim, ssim_3d

GOLDEN = Path(__file__).parents[2] / "golden"
PAIRS = [f"pair{i}" for i in range(5)]

FLOAT = {"quantise": False}
PROTOCOLS = [
    ("restormer_utils_psnr", psnr, {}),
    ("restormer_utils_ssim", ssim, {}),
    ("restormer_utils_psnr_border4", psnr, {"border": 4}),
    ("restormer_utils_ssim_border4", ssim, {"border": 4}),
    ("restormer_train_psnr_bgr", psnr, {}),
    ("restormer_train_psnr_y", psnr, {"space": "y"}),
    ("restormer_train_ssim3d_bgr", ssim_3d, {}),
    ("realblur_psnr_noalign", psnr, {}),
    ("realblur_ssim_noalign", ssim, {}),
    ("uformer_batch_psnr_rgb01", psnr, FLOAT),
]
for border, (suffix, space) in product((0, 2, 4), {"bgr": "rgb", "y": "y"}.items()):
    protocol = {"space": space, "border": border}
    for code in ("basicsr", "swinir"):
        PROTOCOLS.append((f"{code}_psnr_crop{border}_{suffix}", psnr, protocol))
        PROTOCOLS.append((f"{code}_ssim_crop{border}_{suffix}", ssim, protocol))
    PROTOCOLS.append((f"swinir_psnrb_crop{border}_{suffix}", psnr_b, protocol))
    PROTOCOLS.append((f"basicsr_ssim_pt_rgbtensor_crop{border}_{suffix}", ssim, protocol | FLOAT))


@cache
def golden_tensors():
    return load_file(GOLDEN / "metrics_rgb.safetensors")


@cache
def golden_values():
    return json.loads((GOLDEN / "metrics_rgb.json").read_text())["pairs"]


def to_image(bgr):
    """(H, W, BGR) levels → (1, RGB, H, W) in [0, 1], as the datamodules give it."""
    return bgr.flip(-1).permute(2, 0, 1)[None].float() / 255


def golden_pair(pair):
    return to_image(golden_tensors()[f"{pair}.test"]), to_image(golden_tensors()[f"{pair}.gt"])


def random_pair(*shape):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(shape, generator=generator), torch.rand(shape, generator=generator)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize(("key", "function", "protocol"), PROTOCOLS, ids=[key for key, _, _ in PROTOCOLS])
def test_equals_the_papers_scripts(pair, key, function, protocol):
    value = function(*golden_pair(pair), **protocol)
    assert value.dtype == torch.float64
    # SwinIR's PSNR-B on Y is computed in float32.
    rel = 1e-6 if key.startswith("swinir_psnrb") else 0
    assert value.tolist() == pytest.approx([golden_values()[pair][key]], rel=rel, abs=1e-5)


@pytest.mark.parametrize("pair", ["pair2", "pair3"])
def test_rounded_y_equals_the_definition(pair):
    x, y = (
        reference.rounded_luma(*golden_tensors()[f"{pair}.{which}"].long().flip(-1).unbind(-1)).numpy()
        for which in ("test", "gt")
    )
    images = golden_pair(pair)
    assert psnr(*images, space="y_rounded").item() == pytest.approx(reference.psnr(x, y), rel=1e-12)
    assert ssim(*images, space="y_rounded").item() == pytest.approx(reference.ssim(x, y), rel=1e-12)


def test_rgb_equals_the_definition():
    x, y = (golden_tensors()[f"pair2.{which}"].numpy() for which in ("test", "gt"))
    images = golden_pair("pair2")
    assert psnr(*images).item() == pytest.approx(reference.psnr(x, y), rel=1e-12)
    channels = [reference.ssim(x[..., c], y[..., c]) for c in range(3)]
    assert ssim(*images).item() == pytest.approx(np.mean(channels), rel=1e-12)


def test_luma_equals_basicsr_and_matlab():
    tensors = golden_tensors()
    levels = to_image(tensors["ycbcr.in_bgr_uint8"]) * 255
    unrounded = luma(levels)[0, 0]
    # The golden one is float32.
    torch.testing.assert_close(unrounded, tensors["ycbcr.y_float32_unrounded"][..., 0].double(), rtol=1e-6, atol=0)
    rounded = luma(levels.round(), rounded=True)[0, 0]
    assert torch.equal(rounded, tensors["ycbcr.y_uint8"].double())
    assert torch.equal(rounded, tensors["ycbcr.rgb2ycbcr_uint8"][..., 0].double())


def test_rounded_luma_is_exact_where_it_lies_halfway():
    red, green, blue = torch.meshgrid(*[torch.arange(256)] * 3, indexing="ij")
    halfway = (299 * red + 587 * green + 114 * blue) % 85000 == 42500
    rgb = torch.stack([red[halfway], green[halfway], blue[halfway]])
    assert rgb.shape[1] > 100
    assert torch.equal(luma(rgb[None, ..., None], rounded=True).long().flatten(), reference.rounded_luma(*rgb))


def test_luma_of_a_grey_image_is_the_image():
    preds, target = random_pair(1, 1, 16, 16)
    assert torch.equal(psnr(preds, target, space="y"), psnr(preds, target))


@pytest.mark.parametrize(("quantise", "levels"), [(True, [0.0, 0.0, 1.0, 255.0]), (False, [0.0, 0.4, 0.6, 255.0])])
def test_everything_is_clamped_and_quantised_on_request(quantise, levels):
    preds, target = torch.tensor([[[[-1.0, 0.4 / 255, 0.6 / 255, 2.0]]]]), torch.zeros(1, 1, 1, 4)
    expected = 10 * math.log10(255**2 / np.square(levels).mean())
    assert psnr(preds, target, quantise=quantise).item() == pytest.approx(expected)


def test_half_precision_is_measured_in_double():
    preds, target = random_pair(1, 3, 16, 16)
    preds = preds.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        value = ssim(preds, target, quantise=False)
    assert torch.equal(value, ssim(preds.double(), target.double(), quantise=False))


@pytest.mark.parametrize("metric_class", [PSNR, SSIM])
def test_mean_over_images_of_different_sizes(metric_class):
    metric = metric_class()
    batches = [random_pair(2, 3, 16, 20), random_pair(1, 3, 31, 12)]
    values = torch.cat([metric.measure(*batch) for batch in batches])
    for batch in batches:
        metric.update(*batch)
    assert torch.equal(metric.per_image, values[2:])
    torch.testing.assert_close(metric.compute(), values.mean())
    metric.reset()
    torch.testing.assert_close(metric(*batches[0]), values[:2].mean())
    torch.testing.assert_close(metric(*batches[1]), values[2:].mean())
    torch.testing.assert_close(metric.compute(), values.mean())


def test_identical_images_are_infinite_and_so_is_the_mean():
    preds, target = random_pair(2, 3, 16, 16)
    preds[0] = target[0]
    assert psnr(preds, target)[0] == math.inf
    assert ssim(preds, target)[0] == pytest.approx(1, abs=1e-12)
    metric = PSNR()
    metric.update(preds, target)
    assert metric.compute() == math.inf
    assert metric.per_image.isfinite().tolist() == [False, True]


def test_sums_keep_their_precision_in_a_half_precision_module():
    module = nn.ModuleList([PSNR()])
    batch = random_pair(1, 3, 16, 16)
    module[0].update(*batch)
    module.to(torch.bfloat16)
    module[0].update(*batch)
    torch.testing.assert_close(module[0].compute(), psnr(*batch)[0])
    module[0].reset()
    assert module[0].total.dtype == torch.float64


def test_resets_under_inference_mode():
    metric, batch = PSNR(), random_pair(1, 3, 16, 16)
    with torch.inference_mode():
        metric.reset()
        metric.update(*batch)
    metric.update(*batch)
    torch.testing.assert_close(metric.compute(), psnr(*batch)[0])


def test_keeps_no_graph():
    preds, target = random_pair(1, 3, 16, 16)
    metric = PSNR(quantise=False)
    assert not metric(preds.requires_grad_(), target).requires_grad
    assert not metric.per_image.requires_grad


def test_says_what_it_measured():
    assert (PSNR().name, PSNR().protocol) == ("PSNR", "PSNR on RGB, uint8, border 0")
    metric = PSNR("y_rounded", border=4)
    assert (metric.name, metric.protocol) == ("PSNR-Y-rounded", "PSNR on MATLAB's rounded Y, uint8, border 4")
    metric = SSIM("y", quantise=False)
    assert metric.name == "SSIM-Y"
    assert metric.protocol == "SSIM (Gaussian 11, 1.5, unpadded) on BasicSR's unrounded Y, float, border 0"
    assert PSNR.higher_is_better
    assert SSIM.higher_is_better


def test_in_a_collection():
    batch = random_pair(1, 3, 16, 16)
    values = MetricCollection({"rgb": PSNR(), "y": PSNR("y"), "ssim": SSIM()})(*batch)
    assert values["rgb"] == psnr(*batch)
    assert values["y"] == psnr(*batch, space="y")
    assert values["ssim"] == ssim(*batch)


def test_is_written_in_a_configuration_file(tmp_path):
    def task(metrics: list[Metric]):
        return metrics

    (tmp_path / "config.yaml").write_text(
        "metrics:\n"
        "- class_path: trainers.metrics.PSNR\n  init_args: {space: y_rounded}\n"
        "- class_path: trainers.metrics.SSIM\n  init_args: {border: 4, quantise: false}\n"
        "- class_path: trainers.metrics.MRAE\n  init_args: {border: 128, floor: 1.0e-8}\n"
        "- class_path: trainers.metrics.BandSSIM\n  init_args: {script: matlab}\n"
    )
    metrics = auto_cli(task, args=["--config", str(tmp_path / "config.yaml")])
    assert [type(metric) for metric in metrics] == [PSNR, SSIM, MRAE, BandSSIM]
    assert (metrics[2].border, metrics[2].floor, metrics[3].script) == (128, 1e-8, "matlab")
    assert (metrics[0].space, metrics[1].border, metrics[1].quantise) == ("y_rounded", 4, False)


@pytest.mark.parametrize("function", [psnr, ssim])
@pytest.mark.parametrize(
    ("preds", "target", "message"),
    [
        (torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 24), r"\(1, 3, 16, 16\)\) must have the shape of target"),
        (torch.rand(3, 16, 16), torch.rand(3, 16, 16), r"must be images \(B, C, H, W\)"),
        (torch.rand(1, 31, 16, 16), torch.rand(1, 31, 16, 16), r"C = 1 \(grey\) or 3 \(RGB\)"),
        (torch.rand(0, 3, 16, 16), torch.rand(0, 3, 16, 16), "B at least 1"),
        (torch.rand(1, 3, 0, 16), torch.rand(1, 3, 0, 16), "must leave at least"),
        (torch.ones(1, 3, 16, 16, dtype=torch.uint8), torch.ones(1, 3, 16, 16), "divide 8-bit images by 255"),
        (torch.full((1, 3, 16, 16), math.nan), torch.rand(1, 3, 16, 16), "preds must be finite"),
        (torch.rand(1, 3, 16, 16), torch.full((1, 3, 16, 16), math.inf), "target must be finite"),
        (torch.rand(1, 3, 16, 16), 255 * torch.ones(1, 3, 16, 16), r"must lie in \[0, 1\], got 255 to 255"),
    ],
    ids=["shapes", "no-batch", "spectral", "no-images", "no-pixels", "integers", "nan", "infinite", "range"],
)
def test_refuses_what_is_no_pair_of_images(function, preds, target, message):
    with pytest.raises(ValueError, match=message):
        function(preds, target)


@pytest.mark.parametrize(("function", "smallest"), [(psnr, 1), (ssim, 11)])
def test_refuses_a_border_that_leaves_too_little(function, smallest):
    function(*random_pair(1, 1, smallest + 4, 30), border=2)
    with pytest.raises(ValueError, match=f"must leave at least {smallest} × {smallest} pixels inside a border of 2"):
        function(*random_pair(1, 1, smallest + 3, 30), border=2)


@pytest.mark.parametrize(
    ("protocol", "message"),
    [
        ({"space": "ycbcr"}, r"space \('ycbcr'\) must be one of rgb, y, y_rounded"),
        ({"border": -1}, r"border \(-1\) must be 0 or more"),
        ({"space": "y_rounded", "quantise": False}, r"quantise \(False\) must be True for space 'y_rounded'"),
    ],
)
def test_refuses_an_unknown_protocol(protocol, message):
    for metric_class in (PSNR, SSIM):
        with pytest.raises(ValueError, match=message):
            metric_class(**protocol)
    with pytest.raises(ValueError, match=message):
        psnr(*random_pair(1, 3, 16, 16), **protocol)


def batches_of(rank):
    """Two images on the first process, one on the second: the means of the two processes must not be averaged."""
    preds, target = golden_pair("pair0")
    shapes = [(64, 64), (40, 90)] if rank == 0 else [(96, 128)]
    return [(preds[..., :height, :width], target[..., :height, :width]) for height, width in shapes]


def measure_in_process(rank, folder):
    rendezvous = f"file://{folder}/rendezvous"
    distributed.init_process_group("gloo", rendezvous, rank=rank, world_size=2, timeout=timedelta(minutes=1))
    everywhere, on_one = PSNR(), SSIM()
    for batch in batches_of(rank):
        everywhere.update(*batch)
        # More processes than images: one of them has nothing to add.
        if rank == 0:
            on_one.update(*batch)
    torch.save([everywhere.compute(), on_one.compute(), everywhere.per_image], folder / f"{rank}.pt")
    distributed.destroy_process_group()


def measure_in_child(index, folder):
    measure_in_process(index + 1, folder)


def test_two_processes_give_the_mean_over_all_images(tmp_path):
    # This process is one of the two: to start another costs seconds.
    child = multiprocessing.spawn(measure_in_child, (tmp_path,), nprocs=1, join=False)
    measure_in_process(0, tmp_path)
    assert child.join()
    psnrs = [torch.cat([psnr(*batch) for batch in batches_of(rank)]) for rank in range(2)]
    ssims = torch.cat([ssim(*batch) for batch in batches_of(0)])
    for rank in range(2):
        mean_psnr, mean_ssim, per_image = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(mean_psnr, torch.cat(psnrs).mean())
        torch.testing.assert_close(mean_ssim, ssims.mean())
        assert torch.equal(per_image, psnrs[rank][-1:])
