"""Every way that a checkpoint comes in: a pickle is not executed, an address is not fetched."""

import functools
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml
from jsonargparse import ArgumentError
from lightning.pytorch import Trainer
from lightning.pytorch.plugins.io import AsyncCheckpointIO
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn

import glmha
import nystra
import trainers
from glmha.shared.checkpoint_files import CheckpointError, read
from tests.attack.inputs.values import PICKLES
from tests.trainers.small_networks import restormer
from trainers.checkpoints.atomic_io import AtomicCheckpointIO
from trainers.checkpoints.reader import read_by_this
from trainers.names import restrict_names
from trainers.networks import load_network
from trainers.recipes.parser import RecipeParser

ADDRESSES = (
    "http://localhost:9/net.ckpt",
    "https://example.invalid/net.pth?download=1",
    "s3://bucket/net.ckpt",
    "gs://bucket/net.ckpt",
    "hf://owner/net/net.pth",
    "file:///etc/hostname",
    "memory://net.ckpt",
    "simplecache::memory://net.ckpt",
    "registry:net",
)
READERS: dict[str, Callable[[Path], object]] = {
    "read": read,
    "glmha": glmha.load_pretrained,
    "nystra": nystra.load_pretrained,
    "trainers": load_network,
    "ckpt_path": AtomicCheckpointIO().load_checkpoint,
    "every option of Lightning's": lambda path: AtomicCheckpointIO().load_checkpoint(path, None, weights_only=False),
    "task": lambda path: trainers.RestorationTask.load_from_checkpoint(path, net=restormer()),
    "pretrained": lambda path: trainers.RestorationTask(pretrained=path),
    "teacher": lambda path: trainers.SubstitutionTask(path, teacher=path),
    "warm start": lambda path: trainers.WarmStartTask(path, glmha.GLMHA),
}
RECIPES = {
    "fit": ["fit", "--config", "RECIPE", "--ckpt_path", "HOSTILE"],
    "validate": ["validate", "--config", "RECIPE", "--ckpt_path", "HOSTILE"],
    "predict": ["predict", "--config", "RECIPE", "--ckpt_path", "HOSTILE"],
    "no plugin": ["test", "--config", "RECIPE", "--ckpt_path", "HOSTILE", "--trainer.plugins", "null"],
    "pretrained": ["fit", "--config", "RECIPE", "--model.pretrained", "HOSTILE"],
    "compare": ["compare", "--pretrained", "HOSTILE", "--data", "datamodules.DemoDataModule"],
}
VERBS = {
    "restore": ["restore", "PHOTO", "--pretrained", "HOSTILE", "--output", "out"],
    "export": ["export", "HOSTILE", "--output", "out.pth"],
    "spectrum": ["analyze", "spectrum", "PHOTO", "--pretrained", "HOSTILE"],
    "warmstart": ["analyze", "warmstart", "HOSTILE"],
    "bench": ["bench", "attention", "--queries", "HOSTILE"],
    **{verb: pytest.param(words, marks=pytest.mark.slow) for verb, words in RECIPES.items()},
}


@pytest.mark.parametrize("kind", PICKLES)
@pytest.mark.parametrize("reader", READERS)
def test_no_reader_executes_a_pickle(hostile, mark, reader, kind):
    with pytest.raises(CheckpointError, match=r"hostile\.ckpt"):
        READERS[reader](hostile(kind))
    assert not mark.exists()


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("reader", READERS)
def test_no_path_is_taken_for_an_address(reader, address):
    with pytest.raises(CheckpointError, match="got an address: download it first"):
        READERS[reader](Path(address))


@pytest.mark.parametrize("words", VERBS.values(), ids=VERBS)
def test_no_verb_executes_a_pickle(lowrank, recipe, pairs, hostile, mark, capsys, words):
    paths = {"RECIPE": recipe, "HOSTILE": hostile("zip"), "PHOTO": next(pairs.rglob("*.png"))}
    assert lowrank(*(paths.get(word, word) for word in words)) == 2
    assert "hostile.ckpt" in capsys.readouterr().err
    assert not mark.exists()


@pytest.fixture
def served(hostile, tmp_path: Path) -> Iterator[str]:
    """The address of a hostile checkpoint that a server on this machine would hand out."""
    hostile("zip")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    server = http.server.HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hostile.ckpt"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("verb", "options"),
    [("test", ["--trainer.plugins", "null"]), pytest.param("fit", ["--weights_only", "true"], marks=pytest.mark.slow)],
)
def test_no_verb_fetches_an_address(lowrank, recipe, served, mark, capsys, verb, options):
    # Where its own reader is in its place, Lightning fetches such an address and executes what it gets.
    recipe.write_text(yaml.safe_dump({**yaml.safe_load(recipe.read_text()), "ckpt_path": served}))
    assert lowrank(verb, "--config", recipe, *options) == 2
    assert f"ckpt_path ({served}) must be a file on this machine, got an address" in capsys.readouterr().err
    assert not mark.exists()


def test_a_pickle_that_is_fetched_is_not_executed(served, mark, monkeypatch, tmp_path):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "cache"))
    with pytest.raises(CheckpointError, match="must hold tensors in plain containers"):
        load_network(served)
    assert not mark.exists()


@pytest.mark.parametrize("form", ["{}", "simplecache::{}", "filecache::{}"])
def test_no_address_in_a_recipe_is_fetched(served, tmp_path, form):
    (tmp_path / "net.yaml").write_text("class_path: torch.nn.Identity\n")
    restrict_names()
    parser = RecipeParser(exit_on_error=False)
    parser.add_subclass_arguments(nn.Module, "net")
    assert parser.parse_object({"net": str(tmp_path / "net.yaml")}).net.class_path == "torch.nn.Identity"
    with pytest.raises(ArgumentError):
        parser.parse_object({"net": form.format(served.replace("hostile.ckpt", "net.yaml"))})


def test_executing_is_no_option(lowrank, recipe, capsys):
    recipe.write_text(yaml.safe_dump({**yaml.safe_load(recipe.read_text()), "weights_only": False}))
    assert lowrank("test", "--config", recipe) == 2
    assert "weights_only (false) must be left out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": ModelParallelStrategy()}, r"trainer\.strategy \(ModelParallelStrategy\)"),
        ({"plugins": [AsyncCheckpointIO()]}, r"trainer\.plugins \(AsyncCheckpointIO\)"),
    ],
)
def test_readers_of_lightning_s_own_are_refused(options, message):
    trainer = Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, **options)
    with pytest.raises(ValueError, match=message):
        read_by_this(trainer)


def test_a_folder_is_no_checkpoint(tmp_path):
    # Of a sharded checkpoint, torch unpickles the file that lists its parts.
    (tmp_path / "sharded.ckpt").mkdir()
    with pytest.raises(CheckpointError, match="there is none at this path"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "sharded.ckpt")


def test_a_file_whose_name_has_a_colon_is_read(tmp_path):
    path = tmp_path / "best:1.pth"
    torch.save({"params": restormer().state_dict()}, path)
    assert isinstance(load_network(path), glmha.Restormer)
