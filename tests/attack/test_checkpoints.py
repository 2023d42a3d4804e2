"""Checkpoints that claim, hide or lack something: refused in one message, before memory is taken for them."""

import contextlib
import math
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import glmha
import nystra
from glmha.shared.checkpoint_files import CheckpointError, read
from tests.attack.inputs.checkpoints import HUGE, changed, sound
from tests.attack.inputs.values import KERNELS

NETWORKS = ("restormer", "swinir", "dehazeformer")


def weights_of(name: str) -> dict[str, Tensor]:
    return dict(sound()[name])


def load(weights: dict[str, Tensor]) -> object:
    """Load by both packages; what the first knows nothing of is the second's."""
    try:
        return glmha.load_pretrained(weights)
    except CheckpointError as error:
        if "belong to nystra" not in str(error):
            raise
        return nystra.load_pretrained(weights)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("position", [0, 3, -1])
@pytest.mark.parametrize("dimension", [0, -1])
def test_a_tensor_that_claims_more_than_it_holds_is_refused(network, position, dimension):
    weights = weights_of(network)
    key = list(weights)[position]
    sides = list(weights[key].shape) or [1]
    sides[dimension] = HUGE
    weights[key] = torch.zeros([1] * len(sides)).expand(sides)
    with pytest.raises(CheckpointError, match="must hold what its shapes claim"):
        load(weights)


@pytest.mark.parametrize("network", NETWORKS)
def test_shapes_that_multiply_to_terabytes_are_refused_without_memory(network):
    # Each tensor is what it claims; a network of such sizes would have products of them.
    weights = weights_of(network)
    first = next(key for key, value in weights.items() if value.dim() == 4)
    weights[first] = torch.zeros(2_000_000, *weights[first].shape[1:2], 1, 1)
    with pytest.raises(CheckpointError, match=r"does not fit|other shapes than its keys promise"):
        load(weights)


BLOCKS = {
    "restormer": "encoder_level1.{}.x",
    "swinir": "layers.0.residual_group.blocks.{}.x",
    "dehazeformer": "layer1.blocks.{}.x",
}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(("count", "message"), [(300, "does not fit|other shapes|lacks the key"), (20_000, "entries")])
def test_blocks_without_weights_are_refused(network, count, message):
    weights = weights_of(network)
    weights |= {BLOCKS[network].format(index): torch.zeros(1) for index in range(count)}
    with pytest.raises(CheckpointError, match=message):
        load(weights)


def test_no_more_modules_are_made_than_there_are_entries_for(monkeypatch):
    weights = weights_of("restormer") | {f"encoder_level1.{index}.x": torch.zeros(1) for index in range(1000)}
    made = []

    class Block(nn.Sequential):
        def __init__(self, *_: object, **__: object) -> None:
            super().__init__(*(nn.Linear(1, 1) for _ in range(4)))
            made.append(self)

    monkeypatch.setattr("glmha.hosts.restormer.TransformerBlock", Block)
    with pytest.raises(CheckpointError, match="has not the entries"):
        load(weights)
    assert len(made) < 1000


def test_one_storage_for_many_tensors_is_refused():
    shared = torch.zeros(2**20)
    weights = weights_of("restormer") | {f"encoder_level1.{index}.x": shared for index in range(1000)}
    with pytest.raises(CheckpointError, match="must hold what its shapes claim"):
        load(weights)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value.bool(), "real numbers, got bool"),
        (lambda value: value.cfloat(), "real numbers, got complex64"),
        (lambda value: value.to_sparse(), "plain tensors, got a sparse"),
        (lambda value: value.to("meta"), "plain tensors, got a sparse"),
        (lambda value: value.long(), "must hold real numbers, got integers"),
    ],
)
def test_tensors_of_other_kinds_are_named(change, message):
    weights = weights_of("restormer")
    weights["output.weight"] = change(weights["output.weight"])
    with pytest.raises(CheckpointError, match=message):
        load(weights)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_every_precision_are_loaded(dtype):
    weights = {
        key: value.to(dtype) if value.is_floating_point() else value for key, value in weights_of("swinir").items()
    }
    net = load(weights)
    assert {value.dtype for value in net.parameters()} == {torch.float32}


@pytest.mark.parametrize("suffix", [".pth", ".ckpt"])
def test_flipped_bytes_are_found_wherever_they_are(tmp_path, suffix):
    path = tmp_path / f"net{suffix}"
    torch.save({"params": weights_of("restormer")}, path)
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        places = [part.header_offset + 200 for part in archive.infolist() if part.file_size > 1000]
    for place in (places[0], places[len(places) // 2], places[-1]):
        path.write_bytes(content[:place] + bytes(64) + content[place + 64 :])
        with pytest.raises(CheckpointError, match=rf"net\{suffix}.* cannot be read, it may be truncated, damaged"):
            read(path)


def test_a_compressed_archive_is_refused(tmp_path):
    torch.save({"params": {"a": torch.zeros(10**6)}}, tmp_path / "net.pth")
    with zipfile.ZipFile(tmp_path / "net.pth") as archive, zipfile.ZipFile(tmp_path / "bomb.pth", "w") as bomb:
        for part in archive.infolist():
            bomb.writestr(part.filename, archive.read(part), zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="larger than the file"):
        read(tmp_path / "bomb.pth")


def test_containers_that_refer_to_each_other_are_bounded(tmp_path):
    value: list = ["x"]
    for _ in range(40):
        value = [value, value]
    recursive: list = []
    recursive.append(recursive)
    deep: list = []
    for _ in range(100):
        deep = [deep]
    for number, content in enumerate((value, recursive, deep)):
        path = tmp_path / f"{number}.ckpt"
        torch.save({"params": weights_of("restormer"), "note": content}, path)
        with pytest.raises(CheckpointError, match="containers"):
            read(path)


@pytest.mark.parametrize("record", [{"window_size": value} for value in (8.5, True, "8", -1, 0, 10**9, None, [8])])
def test_recorded_windows_are_whole_numbers(record):
    with pytest.raises(CheckpointError, match="windows and kernels"):
        nystra.load_pretrained({"params": weights_of("swinir"), "attention": record})


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_recorded_kernels_are_of_their_types(kernel):
    site = "layers.0.residual_group.blocks.0.attn"
    with pytest.raises(CheckpointError, match="windows and kernels"):
        nystra.load_pretrained({"params": weights_of("swinir"), "attention": {"kernels": {site: kernel}}})


@pytest.mark.parametrize(
    "record", [[], "window_size", 3, {"kernels": []}, {"kernels": {3: {}}}, {"extra": 1}, {"position_bias": "drop"}]
)
def test_records_of_another_structure_are_refused(record):
    with pytest.raises(CheckpointError, match="windows and kernels"):
        nystra.load_pretrained({"params": weights_of("swinir"), "attention": record})


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.randoms(use_true_random=False))
def test_changed_weights_are_loaded_or_refused(chance):
    with contextlib.suppress(CheckpointError):
        load(changed(chance))


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(place=st.integers(0, 10**6), data=st.binary(min_size=1, max_size=64))
def test_changed_bytes_are_read_or_refused(tmp_path, place, data):
    path = Path(tmp_path / "net.ckpt")
    torch.save({"state_dict": {"a": torch.ones(8)}, "epoch": 1}, path)
    content = path.read_bytes()
    place %= len(content)
    path.write_bytes(content[:place] + data + content[place + len(data) :])
    with contextlib.suppress(CheckpointError):
        read(path)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_named(network, value):
    weights = weights_of(network)
    key = next(reversed(weights))
    weights[key] = torch.full_like(weights[key], value)
    with pytest.raises(CheckpointError, match=f"{key} must be finite, got NaN or Inf: choose another checkpoint"):
        load(weights)


def test_classes_in_messages_are_named_as_users_name_them():
    weights = weights_of("restormer")
    del weights["refinement.0.ffn.dwconv.weight"]
    with pytest.raises(CheckpointError, match=r"does not fit Restormer\(.*ChannelAttention") as caught:
        load(weights)
    assert "<class" not in str(caught.value)
