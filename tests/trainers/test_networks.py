"""Networks of both halves from one path, each called in its own range."""

import pytest
import torch

import glmha
import nystra
from nystra.hosts.dehazeformer.network import DehazeFormer
from tests import goldens
from trainers.networks import in_unit_range, load_network
from trainers.tiling.restoration import restore


@pytest.mark.parametrize(
    ("name", "host"), [("dehazeformer_small_t", DehazeFormer), ("restormer_small_biasfree", glmha.Restormer)]
)
def test_both_halves_load_from_one_path(tmp_path, name, host):
    path = tmp_path / "net.pth"
    torch.save({"state_dict": goldens.released_form(host, name)}, path)
    assert type(load_network(path)) is host


def test_what_is_of_no_family_is_named_by_its_path(tmp_path):
    path = tmp_path / "net.pth"
    torch.save({"a.weight": torch.zeros(1)}, path)
    with pytest.raises(glmha.CheckpointError, match=r"net\.pth\) must be of Restormer"):
        load_network(path)


def test_a_network_of_another_range_sees_its_own():
    golden = goldens.load("dehazeformer_small_t")
    net = nystra.load_pretrained(goldens.released_form(DehazeFormer, "dehazeformer_small_t"))
    (image,), (expected,) = golden.cases["s32x48"]
    with torch.inference_mode():
        # The official input is in [-1, 1], and so is its output.
        actual = in_unit_range(net, (image + 1) / 2)
        torch.testing.assert_close(actual, (expected + 1) / 2, atol=1e-5, rtol=1e-4)
        whole = restore(net, (image + 1) / 2, tile=None, overlap=0)
    torch.testing.assert_close(whole, actual)


@pytest.mark.parametrize("content", [{"unknown": torch.zeros(1)}, {"word": "no tensor"}, None])
def test_messages_name_the_option_that_gave_the_path(tmp_path, content):
    path = tmp_path / "other.pth"
    torch.save(content, path)
    with pytest.raises(ValueError, match=rf"^checkpoint \({path}\) ") as caught:
        load_network(path, argument="checkpoint")
    assert "pretrained (" not in str(caught.value)
