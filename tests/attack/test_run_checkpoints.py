"""A run's checkpoint that lacks parts, or has other things in their place, ends in one message before training."""

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.trainer.connectors import checkpoint_connector
from lightning.pytorch.trainer.states import TrainerFn

import datamodules
import glmha
import trainers
from glmha.shared.checkpoint_files import CheckpointError
from tests.trainers.small_networks import restormer
from trainers.checkpoints.atomic_io import AtomicCheckpointIO
from trainers.checkpoints.run_checkpoint import NOTED, NOTES, read_run_checkpoint
from trainers.checkpoints.training_state import check_training_state, restoring
from trainers.recipes.training import check_before_training
from trainers.runs.record import RunRecord

Content = dict[str, Any]
OTHERS = (None, "x", -1, [1], {"x": 1}, True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> trainers.FinishedRun:
    data = datamodules.DemoDataModule(patch_size=16, batch_size=1, epoch_length=4, eval_size=16)
    task = trainers.RestorationTask(restormer(), scheduler=lambda o: torch.optim.lr_scheduler.StepLR(o, 1))
    options: Content = {"accelerator": "cpu", "enable_progress_bar": False, "max_steps": 1, "limit_val_batches": 1}
    return trainers.run(task, data, logs=tmp_path_factory.mktemp("logs"), **options)


@pytest.fixture(scope="module")
def saved(finished) -> Content:
    return read_run_checkpoint(finished.folder / "checkpoints/last.ckpt")


def refuse(content: Any, finished: trainers.FinishedRun, path: Path) -> str:
    """Save contents, go on from them, and return the refusal."""
    torch.save(content, path)
    trainer, task = finished.trainer, finished.trainer.lightning_module
    trainer.fit_loop.epoch_loop.max_steps = 9
    trainer.fit_loop.epoch_progress.current.processed = 0
    with pytest.raises(ValueError, match="ckpt_path") as caught:
        check_before_training(trainer, task, None, RunRecord(), str(path), None)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def change(content: Content, *keys: Any, to: Any = None, remove: bool = False) -> Content:
    changed = copy.deepcopy(content)
    inner: Any = changed
    for key in keys[:-1]:
        inner = inner[key]
    if remove:
        del inner[keys[-1]]
    else:
        inner[keys[-1]] = to
    return changed


@pytest.mark.parametrize("part", ["state_dict", "global_step", "epoch", "loops", "optimizer_states", "lr_schedulers"])
def test_a_part_that_is_missing_is_named(saved, finished, tmp_path, part):
    assert part in refuse(change(saved, part, remove=True), finished, tmp_path / "last.ckpt")


@pytest.mark.parametrize("part", ["state_dict", "global_step", "loops", "optimizer_states", "callbacks", "epoch"])
def test_a_part_that_is_another_thing_is_named(saved, finished, tmp_path, part):
    kind = type(saved[part])
    for other in OTHERS:
        if type(other) is not kind:
            assert part in refuse(change(saved, part, to=other), finished, tmp_path / "last.ckpt")


PLACES = (
    ("loops", "fit_loop"),
    ("loops", "fit_loop", "epoch_progress"),
    ("loops", "fit_loop", "epoch_progress", "current", "processed"),
    ("loops", "fit_loop", "epoch_loop.batch_progress", "is_last_batch"),
    ("loops", "fit_loop", "epoch_loop.batch_progress", "total"),
    ("optimizer_states", 0),
    ("optimizer_states", 0, "param_groups"),
    ("optimizer_states", 0, "param_groups", 0),
    ("optimizer_states", 0, "param_groups", 0, "params"),
    ("optimizer_states", 0, "param_groups", 0, "lr"),
    ("optimizer_states", 0, "state", 0, "exp_avg"),
    ("lr_schedulers", 0),
    ("lr_schedulers", 0, "last_epoch"),
    ("lr_schedulers", 0, "base_lrs"),
    ("state_dict", "net.output.weight"),
)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: ".".join(map(str, place)))
def test_what_lies_deeper_is_compared_with_what_a_run_saves(saved, finished, tmp_path, place):
    for other in ("x", {"x": "y"}, ["x"]):
        refuse(change(saved, *place, to=other), finished, tmp_path / "last.ckpt")


@pytest.mark.parametrize("place", [("param_groups", 0, "lr"), ("param_groups", 0, "weight_decay")])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_steps_that_would_make_weights_nan_are_refused(saved, finished, tmp_path, place, number):
    refuse(change(saved, "optimizer_states", 0, *place, to=number), finished, tmp_path / "last.ckpt")


def test_a_sound_checkpoint_is_gone_on_from(saved, finished, tmp_path, capsys):
    with pytest.raises(pytest.fail.Exception):
        refuse(saved, finished, tmp_path / "last.ckpt")
    assert "resuming from" in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"some text", b"PK\x03\x04", b"\x80\x02}q\x00."])
def test_a_file_that_is_none_points_to_the_sound_one_beside_it(finished, tmp_path, content):
    sound = tmp_path / "last-step=1.ckpt"
    shutil.copy(finished.folder / "checkpoints/last.ckpt", sound)
    (tmp_path / "best.ckpt").write_bytes(b"PK\x03\x04 broken")
    (tmp_path / "last.ckpt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"last\.ckpt.*(beside it is .*last-step=1\.ckpt|bare weights)"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "last.ckpt")


@pytest.mark.parametrize("kept", [100, 1000, -100, -1])
def test_a_truncated_file_points_to_the_sound_one_beside_it(finished, tmp_path, kept):
    sound = tmp_path / "last-step=1.ckpt"
    shutil.copy(finished.folder / "checkpoints/last.ckpt", sound)
    (tmp_path / "last.ckpt").write_bytes(sound.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"a complete one beside it is .*last-step=1\.ckpt"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "last.ckpt")


def restore_by_lightning(monkeypatch, error: Exception) -> None:
    """Fail where Lightning restores a checkpoint."""
    connector = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)._checkpoint_connector
    connector._loaded_checkpoint = {"x": 1}

    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(checkpoint_connector.call, "_call_lightning_module_hook", fail)
    connector.restore_model()


def test_what_fails_while_lightning_restores_is_one_message(monkeypatch):
    with pytest.raises(CheckpointError, match="cannot be restored"), restoring("last.ckpt"):
        restore_by_lightning(monkeypatch, KeyError("state_dict"))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_memory_that_ends_while_a_checkpoint_is_restored_is_no_fault_of_the_checkpoint(monkeypatch, error):
    with pytest.raises(type(error)) as caught, restoring("last.ckpt"):
        restore_by_lightning(monkeypatch, error)
    assert caught.value is error


def test_what_fails_elsewhere_is_no_fault_of_the_checkpoint(monkeypatch):
    with pytest.raises(KeyError), restoring("last.ckpt"):
        {}["a bug elsewhere"]
    # Other weights, such as a teacher's, that a task loads when training begins.
    with pytest.raises(RuntimeError), restoring("last.ckpt"):
        torch.nn.Linear(1, 1).load_state_dict({"other": torch.zeros(1)})
    with pytest.raises(KeyError), restoring(None):
        restore_by_lightning(monkeypatch, KeyError("state_dict"))


def test_a_checkpoint_names_no_file_to_delete(finished, tmp_path):
    keep: Callable[..., Any] = trainers.checkpoints.BestCheckpoint
    other = tmp_path / "thesis.txt"
    other.write_text("mine")
    folder = tmp_path / "logs/checkpoints"
    folder.mkdir(parents=True)
    best = keep()
    best.dirpath = str(folder)
    best._resumed_from = folder / "last.ckpt"
    path = f"{folder}/../../thesis.txt"
    best.load_state_dict({"best_k_models": {path: torch.tensor(1.0)}, "best_model_path": path})
    assert [Path(kept) for kept in best.best_k_models] == [other.resolve()]
    assert not best._should_remove_checkpoint(finished.trainer, best.kth_best_model_path, "new.ckpt")


def test_no_module_is_imported_because_a_checkpoint_names_it(saved, finished, tmp_path, monkeypatch):
    (tmp_path / "named_by_checkpoint.py").write_text("raise AssertionError('executed')")
    monkeypatch.syspath_prepend(str(tmp_path))
    callback = {"class_path": "named_by_checkpoint.Callback", "init_args": {}}
    record = RunRecord()
    record.configuration = {"model": {"class_path": "trainers.RestorationTask"}}
    configuration = {"trainer": {"callbacks": [callback]}, "model": {"class_path": "named_by_checkpoint.Task"}}
    with pytest.raises(ValueError, match="got one that differs"):
        record.check(change(saved, NOTES, "configuration", to=configuration))


@pytest.mark.parametrize("name", NOTED)
def test_a_task_may_keep_parts_under_the_names_of_notes(saved, finished, tmp_path, name):
    assert name in saved[NOTES] or name == "configuration"  # which a run from Python has not
    with pytest.raises(pytest.fail.Exception):
        refuse({**saved, name: "a task's own"}, finished, tmp_path / "last.ckpt")
    assert name in refuse(change(saved, NOTES, name, to="another thing"), finished, tmp_path / "last.ckpt")


class Counter(torch.nn.Module):
    """Says of itself what is no tensor."""

    def __init__(self, count: int = 0) -> None:
        super().__init__()
        self.count = count

    def get_extra_state(self) -> dict[str, Any]:
        return {"count": self.count, "names": ["a"]}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.count = state["count"]


def test_what_modules_say_of_themselves_may_be_no_tensor(tmp_path):
    data = datamodules.DemoDataModule(patch_size=16, batch_size=1, epoch_length=2, eval_size=16, num_workers=0)
    options: Content = {"accelerator": "cpu", "enable_progress_bar": False, "limit_val_batches": 0, "logs": tmp_path}
    options["best_checkpoint"] = trainers.checkpoints.BestCheckpoint(save_top_k=0)

    def task(count: int) -> trainers.RestorationTask:
        net = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1), Counter(count))
        net[1].forward = lambda image: image
        return trainers.RestorationTask(net)

    trainers.run(task(7), data, max_steps=1, **options)
    again = task(0)
    trainers.run(again, data, max_steps=2, ckpt_path="last", **options)
    assert again.net[1].count == 7
    with pytest.raises(ValueError, match=r"1\._extra_state \(absent where of its own is due\)"):
        trainers.RestorationTask.on_load_checkpoint(
            again, {"state_dict": torch.nn.ModuleDict({"net": again.net[:1]}).state_dict()}
        )


class Projected(torch.optim.AdamW):
    """Stands for optimisers that keep a projection of the gradient."""


def test_states_of_other_optimisers_may_have_other_shapes(saved, finished):
    task = finished.trainer.lightning_module
    small = change(saved, "optimizer_states", 0, "state", 0, "exp_avg", to=torch.zeros(2))
    check_training_state(small, finished.trainer, Projected(task.trained_parameters()), None)
    with pytest.raises(CheckpointError, match="exp_avg of the shape of its parameter"):
        check_training_state(small, finished.trainer, torch.optim.AdamW(task.trained_parameters()), None)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("name", ["exp_avg_sq", "step"])
def test_states_lack_nothing_that_others_have(saved, finished, number, name):
    damaged = change(saved, "optimizer_states", 0, "state", number, name, remove=True)
    optimizer = torch.optim.AdamW(finished.trainer.lightning_module.trained_parameters())
    with pytest.raises(CheckpointError, match=f"the same of all parameters in optimizer_states, got {name} of some"):
        check_training_state(damaged, finished.trainer, optimizer, None)


def test_milestones_of_a_schedule_may_change(saved, finished):
    optimizer = torch.optim.AdamW(finished.trainer.lightning_module.trained_parameters())
    now, before = (torch.optim.lr_scheduler.MultiStepLR(optimizer, [step]) for step in (3, 5))
    check_training_state({**saved, "lr_schedulers": [before.state_dict()]}, finished.trainer, optimizer, now)


def test_networks_of_this_package_load_what_a_run_saved(finished):
    assert isinstance(glmha.load_pretrained(finished.folder / "checkpoints/last.ckpt"), glmha.Restormer)


def test_training_without_an_average_goes_on_from_the_training_weights(saved, finished, monkeypatch):
    task = finished.trainer.lightning_module
    checkpoint = {**saved, "current_model_state": {key: value + 1 for key, value in saved["state_dict"].items()}}
    for stage, expected in (("fit", "current_model_state"), ("test", "state_dict")):
        monkeypatch.setattr(finished.trainer.state, "fn", TrainerFn.FITTING if stage == "fit" else TrainerFn.TESTING)
        taken = dict(checkpoint)
        task.on_load_checkpoint(taken)
        assert taken["state_dict"] is checkpoint[expected]


def of_an_earlier_version(content: Content) -> Content:
    """Notes among Lightning's parts."""
    return {**{key: value for key, value in content.items() if key != NOTES}, **content[NOTES]}


@pytest.mark.parametrize(("given", "expected"), [(None, 123), ("7", 5)])
@pytest.mark.parametrize("earlier", [False, True])
def test_a_run_without_a_seed_goes_on_with_its_first(saved, finished, tmp_path, monkeypatch, given, expected, earlier):
    monkeypatch.setenv("PL_GLOBAL_SEED", given or "")
    if given is None:
        monkeypatch.delenv("PL_GLOBAL_SEED")
    torch.manual_seed(5)
    content = change(saved, NOTES, "seed", to=123)
    content = of_an_earlier_version(content) if earlier else content
    with pytest.raises(pytest.fail.Exception):
        refuse(content, finished, tmp_path / "last.ckpt")
    assert torch.initial_seed() == expected


def test_a_run_goes_on_from_its_own_configuration(lowrank, recipe, tmp_path, capsys):
    # A network's attention is left out: the configuration that is kept names what the default is.
    content = yaml.safe_load(recipe.read_text())
    del content["model"]["init_args"]["net"]["init_args"]["attention"]
    recipe.write_text(yaml.safe_dump(content))
    assert lowrank("fit", "--config", recipe, "--trainer.max_steps", 1) == 0
    folder = tmp_path / "logs/run/version_0"
    # For scripts that start a run again until it is finished.
    capsys.readouterr()
    assert lowrank("fit", "--config", recipe, "--trainer.max_steps", 1, "--ckpt_path", "auto") == 0
    assert capsys.readouterr().err.startswith(f"nothing is left to do for {folder / 'checkpoints/last.ckpt'}")
    assert [path.name for path in folder.parent.iterdir()] == ["version_0"]
    options = ["--trainer.max_steps", 2, "--ckpt_path", folder / "checkpoints/last.ckpt"]
    assert lowrank("fit", "--config", folder / "config.yaml", *options) == 0
