"""`lowrank export` and `lowrank push`: weights under upstream's keys, and a card that travels with them."""

import json
from pathlib import Path

import pytest
import safetensors
import torch
from safetensors.torch import load_file

import glmha
import nystra
from glmha.shared.checkpoint_files import CARD, read
from tests.trainers.small_networks import dehazeformer, restormer, swinir
from trainers.commands.export import export_network
from trainers.commands.push import push_model
from trainers.networks import load_network
from trainers.runs import cards
from trainers.runs.cards import card_of

GOLDEN = Path(__file__).parents[2] / "golden"
OFFICIAL = (
    "restormer_small_withbias",
    "mst_small",
    "mstpp_small",
    "swinir_small_pixelshuffle_x2",
    "uformer_small_shift",
    "dehazeformer_small_t",
)
"""References with every parameter of a network under its official name."""


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("net.tflite", [], r"must end in .pth or .pt or .safetensors"),
        ("net.pth", ["--format", "safetensors"], r"must end in .safetensors"),
        ("net.safetensors", ["--format", "pth"], r"must end in .pth or .pt"),
    ],
)
def test_the_ending_tells_the_format(lowrank, released, tmp_path, capsys, name, options, message):
    assert lowrank("export", "--checkpoint", released, "--output", tmp_path / name, *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("link", [None, Path.symlink_to, Path.hardlink_to])
def test_a_checkpoint_is_not_replaced_by_its_weights(tmp_path, link):
    checkpoint = output = tmp_path / "net.pth"
    torch.save({"params": restormer().state_dict(), "optimizer": 1}, checkpoint)
    if link is not None:
        output = tmp_path / "other.pth"
        link(output, checkpoint)
    with pytest.raises(ValueError, match="must not be the checkpoint itself"):
        export_network(checkpoint, output=output)
    assert "optimizer" in torch.load(checkpoint, weights_only=True)


@pytest.mark.parametrize("name", OFFICIAL)
def test_dense_networks_have_upstream_s_keys_and_values_in_every_format(tmp_path, name):
    golden = load_file(GOLDEN / f"{name}.safetensors")
    official = {key[2:]: value.float() for key, value in golden.items() if key.startswith("w.")}
    official |= {key[2:]: value for key, value in golden.items() if key.startswith("b.")}
    torch.save({"params": official}, tmp_path / "official.pth")
    for ending in ("pth", "safetensors"):
        export_network(tmp_path / "official.pth", output=tmp_path / f"ours.{ending}")
        ours = read(tmp_path / f"ours.{ending}")["state_dict"]
        parameters = {key for key in ours if key in official}
        # Buffers, such as tables of indices, are made anew by every constructor, and not every reference holds them.
        missing = {key.rsplit(".", 1)[1] for key in official.keys() ^ ours.keys()}
        assert missing <= {"relative_position_index", "attn_mask", "relative_positions"}
        for key in parameters:
            torch.testing.assert_close(ours[key], official[key].to(ours[key].dtype), rtol=0, atol=0)


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
@pytest.mark.parametrize("make", [lambda: restormer(glmha.GLMHA), dehazeformer, swinir])
def test_networks_come_back_with_attention_windows_and_card(tmp_path, make, ending):
    net = make()
    if isinstance(net, nystra.DehazeFormer | nystra.SwinIR):
        net.set_window(8, "interpolate")
        nystra.substitute(net, nystra.LandmarkPooling(4))
    first = {"state_dict": net.state_dict()}
    if record := nystra.sites.attention_record.record(net):
        first["attention"] = record
    torch.save(first, tmp_path / "net.pth")
    output = tmp_path / f"out.{ending}"
    export_network(tmp_path / "net.pth", output=output)
    again, image = load_network(output), torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(again(image), net.eval()(image), rtol=0, atol=0)
    card = card_of(output)
    assert card["architecture"] == type(net).__name__
    assert card["parameters"] == sum(value.numel() for value in net.parameters())
    assert json.loads(json.dumps(card)) == card
    assert ("GLMHA" if make.__name__ == "<lambda>" else "LandmarkPooling") in str(card["attention"])


def test_other_libraries_read_the_tensors_of_a_safetensors_file(tmp_path):
    torch.save({"params": restormer().state_dict()}, tmp_path / "net.pth")
    export_network(tmp_path / "net.pth", output=tmp_path / "net.safetensors")
    assert load_file(tmp_path / "net.safetensors").keys() == restormer().state_dict().keys()
    with safetensors.safe_open(tmp_path / "net.safetensors", "pt") as file:
        assert file.metadata()["format"] == "pt"
        assert json.loads(file.metadata()[CARD])["architecture"] == "Restormer"


def test_the_licence_of_the_first_weights_travels_from_file_to_file(tmp_path, monkeypatch):
    torch.save({"params": restormer().state_dict()}, tmp_path / "net.pth")
    entry = cards.released()["restormer-deraining"]
    monkeypatch.setattr(cards, "released_as", lambda file: entry if file.name == "net.pth" else None)
    export_network(tmp_path / "net.pth", output=tmp_path / "first.safetensors")
    export_network(tmp_path / "first.safetensors", output=tmp_path / "second.pth")
    for name in ("first.safetensors", "second.pth"):
        card = card_of(tmp_path / name)
        assert card["licence"] == f"{entry.licence} ({entry.upstream})"
        assert card["released as"] == "restormer-deraining"


def test_a_card_that_is_none_is_left_out(tmp_path):
    torch.save({"params": restormer().state_dict(), CARD: [1, 2]}, tmp_path / "net.pth")
    assert card_of(tmp_path / "net.pth") == {}


class Hub:
    """A stand-in for the client of a model hub."""

    pushed: dict[str, bytes]

    def create_repo(self, repository: str, **options: object) -> None:
        type(self).made = (repository, options)

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> None:
        type(self).pushed = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}


def test_a_model_and_its_page_are_pushed(tmp_path, monkeypatch, capsys):
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub, "HfApi", Hub)
    torch.save({"params": restormer().state_dict()}, tmp_path / "net.pth")
    push_model(tmp_path / "net.pth", repository="me/net", private=True, licence="mit")
    assert Hub.made == ("me/net", {"private": True, "exist_ok": True})
    assert Hub.pushed.keys() == {"model.safetensors", "README.md"}
    (tmp_path / "again.safetensors").write_bytes(Hub.pushed["model.safetensors"])
    assert isinstance(load_network(tmp_path / "again.safetensors"), glmha.Restormer)
    page = Hub.pushed["README.md"].decode()
    assert page.startswith("---\nlibrary_name: lowrank-attention\npipeline_tag: image-to-image\nlicense: mit\n---\n")
    assert "hf://me/net" in page
    assert str(tmp_path) not in page
    assert "pushed: hf://me/net" in capsys.readouterr().out
