"""What is logged of a network's attention, and that looking on changes nothing."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader

import nystra
from nystra.hosts.swinir.network import SwinIR
from trainers import RestorationTask
from trainers.monitoring.attention import AttentionWatcher, evenly_chosen


def read(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(next(folder.rglob("events.*"))), size_guidance={"histograms": 0})
    accumulator.Reload()
    return accumulator


def test_spectra_and_calibrations_are_logged_at_validations(lowrank, recipe, tmp_path):
    options = ["--trainer.check_val_every_n_epoch", 1, "--watch.sites", 3]
    assert lowrank("fit", "--config", recipe, *options) == 0
    events = read(tmp_path / "logs/run/version_0")
    ranks = [tag for tag in events.Tags()["scalars"] if tag.startswith("watch/rank/")]
    assert len(ranks) == 3
    assert ranks[0] == "watch/rank/encoder_level1.0.attn"
    for tag in ranks:
        assert [value.step for value in events.Scalars(tag)] == [2, 4]
        assert all(0 < value.value <= 1 for value in events.Scalars(tag))
    histograms = events.Tags()["histograms"]
    assert len(histograms) == 3
    assert histograms[0] == "watch/calibration/encoder_level1.0.attn.calibration"
    values = events.Histograms(histograms[0])
    assert [value.step for value in values] == [2, 4]
    # One vector of the first image: a value for each of the 4 channels.
    assert values[0].histogram_value.num == 4
    assert -1 < values[0].histogram_value.min < values[0].histogram_value.max < 1


@pytest.mark.slow
def test_energy_is_a_curve_of_attention_of_full_rank_only(lowrank, recipe, tmp_path):
    mixed = ["glmha.ChannelAttention", "glmha.GLMHA", "glmha.ChannelAttention", "glmha.GLMHA"]
    factories = "[" + ", ".join(mixed) + "]"
    assert lowrank("fit", "--config", recipe, "--model.net.attention", factories, "--watch.sites", 20) == 0
    tags = read(tmp_path / "logs/run/version_0").Tags()["scalars"]
    energies = {tag.removeprefix("watch/energy/") for tag in tags if tag.startswith("watch/energy/")}
    ranks = {tag.removeprefix("watch/rank/") for tag in tags if tag.startswith("watch/rank/")}
    assert energies == {name for name in ranks if not name.startswith(("encoder_level2", "decoder_level2", "latent"))}
    assert energies < ranks


@pytest.mark.slow
def test_looking_on_can_be_thinned_out_and_changes_nothing(lowrank, recipe, tmp_path):
    every = ["--config", recipe, "--trainer.check_val_every_n_epoch", 1]
    assert lowrank("fit", *every) == 0
    assert lowrank("fit", *every, "--watch.every_n_validations", 2) == 0
    assert lowrank("fit", *every, "--watch.every_n_validations", 0) == 0
    runs = [tmp_path / f"logs/run/version_{number}" for number in range(3)]
    tag = "watch/rank/encoder_level1.0.attn"
    assert [len(read(run).Scalars(tag)) for run in runs[:2]] == [2, 1]
    assert not [tag for tag in read(runs[2]).Tags()["scalars"] if tag.startswith("watch/")]
    states = [torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for run in runs]
    torch.testing.assert_close(states[0], states[2], rtol=0, atol=0)
    scores = [[value.value for value in read(run).Scalars("val/psnr")] for run in (runs[0], runs[2])]
    assert scores[0] == scores[1]


def validate(task: RestorationTask, tmp_path: Path, watcher: AttentionWatcher) -> EventAccumulator:
    image = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    samples = [{"input": image, "target": image, "name": name} for name in ("first", "second")]
    trainer = Trainer(
        accelerator="cpu",
        logger=TensorBoardLogger(tmp_path, name="", version=""),
        callbacks=[watcher],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.validate(task, DataLoader(samples), verbose=False)
    return read(tmp_path)


@pytest.fixture
def task() -> RestorationTask:
    """A SwinIR of four sites, of which the first two have another kernel."""
    torch.manual_seed(0)
    net = SwinIR(img_size=16, embed_dim=8, depths=[2, 2], num_heads=[2, 2], window_size=8, mlp_ratio=2.0)
    nystra.substitute(net, nystra.LandmarkPooling(4, 4, "none"), sites="layers.0.*")
    return RestorationTask(net)


@pytest.mark.filterwarnings("ignore:The 'val_dataloader' does not have many workers")
def test_errors_of_kernels_that_are_not_exact_are_logged(task, tmp_path):
    kernels = {name: site.kernel for name, site in nystra.find_sites(task.net).items()}
    events = validate(task, tmp_path, AttentionWatcher())
    tags = [tag for tag in events.Tags()["scalars"] if tag.startswith("watch/kernel_error/")]
    assert tags == [f"watch/kernel_error/{name}" for name in nystra.find_sites(task.net, "layers.0.*")]
    for tag in tags:
        [value] = events.Scalars(tag)
        assert 0 < value.value < 1
    assert {name: site.kernel for name, site in nystra.find_sites(task.net).items()} == kernels


@pytest.mark.filterwarnings("ignore:The 'val_dataloader' does not have many workers")
def test_an_interruption_leaves_the_network_as_it_was(task, tmp_path, monkeypatch):
    kernels = {name: site.kernel for name, site in nystra.find_sites(task.net).items()}

    def fail(batch: object) -> None:
        raise RuntimeError("while it is watched")

    monkeypatch.setattr(task, "restore", fail)
    with pytest.raises(RuntimeError, match="while it is watched"):
        validate(task, tmp_path, AttentionWatcher())
    assert {name: site.kernel for name, site in nystra.find_sites(task.net).items()} == kernels


def test_sites_are_spread_evenly():
    modules = {str(number): torch.nn.Identity() for number in range(9)}
    assert list(evenly_chosen(modules, 3)) == ["0", "4", "8"]
    assert list(evenly_chosen(modules, 20)) == list(modules)
    assert list(evenly_chosen(modules, 1)) == ["0"]
    assert evenly_chosen({}, 3) == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every_n_validations": -1}, r"watch.every_n_validations \(-1\) must be at least 0"),
        ({"sites": 0}, r"watch.sites \(0\) at least 1"),
    ],
)
def test_numbers_that_cannot_be_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        AttentionWatcher(**options)
