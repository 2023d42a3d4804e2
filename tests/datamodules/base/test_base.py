"""Loaders: every image once, reproducible patches, sizes that change."""

import multiprocessing
import os
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import Dataset

from datamodules import DemoDataModule, PairedFolderDataModule
from datamodules.errors import DataError
from tests.datamodules.conftest import write_pairs

NAMES = ["a", "b", "c", "d", "e"]


@pytest.fixture
def folder(tmp_path):
    return write_pairs(tmp_path / "Toy", NAMES)


def make(folder, **kwargs):
    kwargs = {"patch_size": 8, "batch_size": 2, "num_workers": 0, **kwargs}
    arguments = {f"{split}_{role}": folder / role for split in ("train", "val", "test") for role in ("input", "target")}
    return PairedFolderDataModule(**arguments, **kwargs)


def test_training_batches_are_shuffled_patches(folder):
    data = make(folder)
    data.setup("fit")
    batches = list(data.train_dataloader())
    assert len(batches) == 2  # the fifth image alone is no batch
    assert batches[0]["input"].shape == batches[0]["target"].shape == (2, 3, 8, 8)
    assert batches[0]["input"].dtype == torch.float32
    # A plain loop, which sets no epoch, gets a new one each time.
    loader = data.train_dataloader()
    epochs = [list(loader) for _ in range(5)]
    assert len({tuple(name for batch in batches for name in batch["name"]) for batches in epochs}) > 1
    assert len(torch.unique(torch.cat([batch["input"] for batches in epochs for batch in batches]), dim=0)) >= 18


def test_training_obeys_changed_sizes(folder):
    data = make(folder, repeat=2)
    data.setup("fit")
    data.train_dataloader()
    data.patch_size, data.batch_size = 12, 3
    assert next(iter(data.train_dataloader()))["input"].shape == (3, 3, 12, 12)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize(
    ("stage", "loaders"),
    [("validate", "val_dataloader"), ("test", "test_dataloader"), ("predict", "predict_dataloader")],
)
def test_every_whole_image_is_evaluated_once(folder, stage, loaders, num_workers):
    data = make(folder, num_workers=num_workers)
    data.setup(stage)
    (loader,) = getattr(data, loaders)()
    batches = list(loader)
    assert [batch["name"] for batch in batches] == [[name] for name in NAMES]
    assert {batch["input"].shape for batch in batches} == {(1, 3, 24, 32)}


def test_set_names_are_known_after_setup(folder):
    data = make(folder)
    assert data.val_set_names == data.test_set_names == []
    data.setup("fit")
    data.setup("test")
    assert data.val_set_names == data.test_set_names == ["Toy"]


def test_fit_without_validation_has_no_loader_for_it(folder):
    data = PairedFolderDataModule(folder / "input", folder / "target", batch_size=2)
    data.setup("fit")
    assert data.val_dataloader() == []


def test_validate_without_validation_set_is_refused(folder):
    with pytest.raises(DataError, match="must have a validation set to validate"):
        PairedFolderDataModule(folder / "input", folder / "target").setup("validate")


def test_batch_larger_than_the_epoch_is_refused(folder):
    with pytest.raises(DataError, match=r"batch_size \(8\) .* 5 training images × repeat 1; raise repeat"):
        make(folder, batch_size=8).setup("fit")
    with pytest.raises(DataError, match="repeat 0; raise repeat"):
        make(folder, repeat=0).setup("fit")
    make(folder, batch_size=8, repeat=2).setup("fit")


def test_training_loader_before_setup_is_refused(folder):
    with pytest.raises(RuntimeError, match="setup"):
        make(folder).train_dataloader()


@pytest.mark.parametrize(("argument", "value"), [("batch_size", 0), ("num_workers", -1)])
def test_numbers_out_of_range_are_refused_at_once(folder, argument, value):
    with pytest.raises(ValueError, match=rf"{argument} \({value}\) must be at least"):
        make(folder, **{argument: value})


@pytest.mark.parametrize(("argument", "value"), [("channels", 2), ("scale", 0)])
def test_numbers_out_of_range_are_refused_by_setup(folder, argument, value):
    with pytest.raises(ValueError, match=rf"{argument} \({value}\) must be"):
        make(folder, **{argument: value}).setup("validate")


class Recorder(pl.LightningModule):
    """Keeps what it is given."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append(batch["input"])
        return self.weight * batch["input"].mean()

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(data, seed, checkpoint=None, **options):
    """Train as told and give what was seen and the trainer."""
    pl.seed_everything(seed, workers=True, verbose=False)
    module = Recorder()
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    trainer.fit(module, data, ckpt_path=checkpoint)
    return module.seen, trainer


def run(folder, seed, num_workers):
    return torch.cat(fit(make(folder, num_workers=num_workers, repeat=2), seed, max_epochs=2)[0])


# Lightning's advice on workers; its use of a name that torch 2.13 deprecates.
quiet = pytest.mark.filterwarnings(
    "ignore:The '.*_dataloader' does not have many workers", "ignore:.*LeafSpec.*:FutureWarning"
)


@quiet
@pytest.mark.parametrize("num_workers", [0, 2])
def test_run_of_lightning_repeats_bit_for_bit_with_its_seed(folder, num_workers):
    first = run(folder, 1, num_workers)
    assert torch.equal(first, run(folder, 1, num_workers))
    assert not torch.equal(first, run(folder, 2, num_workers))
    # All files hold the same image: only crops and symmetries tell the patches apart, also of different epochs.
    assert len(first) == 20
    assert len(torch.unique(first, dim=0)) >= 18  # of 3400 possible ones, two may coincide


def demo(num_workers):
    return DemoDataModule(patch_size=8, batch_size=2, epoch_length=10, eval_size=8, num_workers=num_workers)


@quiet
@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("kind", ["pairs", "demo"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"max_steps": 3}, {"max_steps": 12}),
        ({"max_steps": 5}, {"max_steps": 12}),
        ({"max_epochs": 1}, {"max_epochs": 3}),
        ({"max_steps": 3, "limit_train_batches": 4}, {"max_steps": 12, "limit_train_batches": 4}),
        ({"max_steps": 8, "limit_train_batches": 4}, {"max_steps": 12, "limit_train_batches": 4}),
    ],
)
def test_a_resumed_run_sees_what_the_straight_one_does(folder, tmp_path, kind, num_workers, before, after):
    def data():
        return demo(num_workers) if kind == "demo" else make(folder, num_workers=num_workers, repeat=2)

    straight, _ = fit(data(), 1, **after)
    first, trainer = fit(data(), 1, **before)
    trainer.save_checkpoint(tmp_path / "stopped.ckpt")
    # Batches that workers had read ahead do not count; another seed of the process changes nothing for the demo.
    second, _ = fit(data(), 1 if kind == "pairs" else 2, tmp_path / "stopped.ckpt", **after)
    assert len(straight) > len(first)
    torch.testing.assert_close(first + second, straight, rtol=0, atol=0)


@quiet
@pytest.mark.filterwarnings("ignore:You requested to overfit but enabled")
@pytest.mark.parametrize("kind", ["pairs", "demo"])
def test_overfitting_sees_the_same_batches_in_every_epoch(folder, kind):
    data = demo(0) if kind == "demo" else make(folder, repeat=2)
    seen, _ = fit(data, 1, max_epochs=2, overfit_batches=2, limit_val_batches=0)
    assert len(seen) == 4
    torch.testing.assert_close(seen[:2], seen[2:], rtol=0, atol=0)


def test_no_more_workers_than_cores_are_started(folder, monkeypatch):
    monkeypatch.setattr("datamodules.base.restoration.available_cores", lambda: 1)
    data = make(folder, num_workers=8)
    data.setup("fit")
    assert data.num_workers == 8
    assert data.train_dataloader().num_workers == data.val_dataloader()[0].num_workers == 1


def test_devices_share_out_one_order(folder):
    data = make(folder, repeat=2)
    data.setup("fit")
    names = []
    for rank in range(2):
        strategy = SimpleNamespace(broadcast=lambda seed: 5)
        data.trainer = SimpleNamespace(world_size=2, global_rank=rank, strategy=strategy, accumulate_grad_batches=1)
        names += [name for batch in data.train_dataloader() for name in batch["name"]]
    # Five images, twice, in steps of two, of which each device has one.
    assert len(names) == 10
    assert {names.count(name) for name in names} == {2}


class Processes(Dataset):
    """Images that are named by the process which reads them."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> dict[str, object]:
        return {"input": torch.full((3, 8, 8), float(index)), "target": torch.zeros(3, 8, 8), "name": str(os.getpid())}


class Noting(pl.LightningModule):
    """Notes what it validates on."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[str, float]] = []

    def training_step(self, batch: dict, batch_idx: int) -> torch.Tensor:
        return self.weight * batch["input"].mean()

    def validation_step(self, batch: dict, batch_idx: int) -> None:
        self.seen.append((batch["name"][0], batch["input"].mean().item()))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers")
@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec")
def test_workers_live_from_one_validation_to_the_next_and_not_longer(folder, tmp_path):
    data, task = make(folder, num_workers=1), Noting()
    data.setup("fit")
    data._val_sets = {"one": Processes()}
    data.setup = lambda stage: None
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    # The check before training asks for one image of three: what was read ahead must not be taken for the next one's.
    trainer = pl.Trainer(accelerator="cpu", max_epochs=2, num_sanity_val_steps=1, enable_model_summary=False, **options)
    trainer.fit(task, data)
    assert [value for _, value in task.seen] == [0, 0, 1, 2, 0, 1, 2]
    assert len({process for process, _ in task.seen}) == 1
    assert multiprocessing.active_children() == []
    # An evaluation asks once.
    trainer.state.fn = "validate"
    assert not data.val_dataloader()[0].persistent_workers
