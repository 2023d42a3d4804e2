"""Every option of fit, validate, test and predict reaches what it sets, or is refused by its name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch.callbacks import ModelSummary

import tests.trainers.cli.test_help as help_pages
from datamodules import DemoDataModule
from trainers.cli.main import main
from trainers.cli.verbs import TRAINER_VERBS
from trainers.errors import UsageError
from trainers.recipes.lightning_cli import LowrankCLI
from trainers.recipes.parser_messages import refuse_options_of_others

FIT, VALIDATION, ALL = ("fit",), ("fit", "validate"), tuple(TRAINER_VERBS)
RECIPE: dict[str, Any] = {
    "trainer": {"accelerator": "cpu"},
    "model": {
        "class_path": "trainers.RestorationTask",
        "init_args": {
            "net": {
                "class_path": "torch.nn.Conv2d",
                "init_args": {"in_channels": 3, "out_channels": 3, "kernel_size": 1},
            }
        },
    },
    "data": {"class_path": "datamodules.DemoDataModule", "init_args": {"patch_size": 16, "batch_size": 2}},
}


@dataclass(frozen=True)
class Acts:
    """What an option does: on which verbs, with which value, and where the value is found then.

    Options of one group are given together.
    """

    value: Any
    found: Callable[[LowrankCLI], Any]
    verbs: tuple[str, ...] = ALL
    group: int = 0


def of_trainer(name: str) -> Callable[[LowrankCLI], Any]:
    return lambda cli: getattr(cli.trainer, name)


def callback(name: str, attribute: str | None = None) -> Callable[[LowrankCLI], Any]:
    def read(cli: LowrankCLI) -> Any:
        found = [each for each in cli.trainer.callbacks if type(each).__name__ == name]
        return bool(found) if attribute is None else getattr(found[0], attribute)

    return read


def to_verb(name: str) -> Callable[[LowrankCLI], Any]:
    return lambda cli: cli.config_init[cli.subcommand][name]


def synchronises(cli: LowrankCLI) -> bool:
    return getattr(cli.trainer.strategy, "_layer_sync", None) is not None


def summarises(cli: LowrankCLI) -> bool:
    return any(isinstance(each, ModelSummary) for each in cli.trainer.callbacks)


OPTIONS = {
    "seed_everything": Acts(5, lambda cli: torch.initial_seed()),
    "trainer.accelerator": Acts("cpu", lambda cli: type(cli.trainer.accelerator).__name__),
    "trainer.strategy": Acts("ddp", lambda cli: type(cli.trainer.strategy).__name__),
    "trainer.devices": Acts(2, of_trainer("num_devices")),
    "trainer.num_nodes": Acts(2, of_trainer("num_nodes")),
    "trainer.precision": Acts("bf16-mixed", of_trainer("precision")),
    "trainer.logger": Acts("false", lambda cli: len(cli.trainer.loggers), group=1),
    "trainer.callbacks": Acts("[lightning.pytorch.callbacks.Timer]", callback("Timer")),
    "trainer.fast_dev_run": Acts(2, of_trainer("fast_dev_run"), group=2),
    "trainer.max_epochs": Acts(7, of_trainer("max_epochs"), FIT),
    "trainer.min_epochs": Acts(3, of_trainer("min_epochs"), FIT),
    "trainer.max_steps": Acts(9, of_trainer("max_steps"), FIT),
    "trainer.min_steps": Acts(4, of_trainer("min_steps"), FIT),
    "trainer.max_time": Acts("00:01:00:00", callback("Timer", "_duration"), FIT, group=1),
    "trainer.limit_train_batches": Acts(3, of_trainer("limit_train_batches"), FIT),
    "trainer.limit_val_batches": Acts(3, of_trainer("limit_val_batches"), VALIDATION),
    "trainer.limit_test_batches": Acts(3, of_trainer("limit_test_batches"), ("test",)),
    "trainer.limit_predict_batches": Acts(3, of_trainer("limit_predict_batches"), ("predict",)),
    "trainer.overfit_batches": Acts(2, of_trainer("overfit_batches"), VALIDATION, group=1),
    "trainer.val_check_interval": Acts(0.5, of_trainer("val_check_interval"), FIT),
    "trainer.check_val_every_n_epoch": Acts(3, of_trainer("check_val_every_n_epoch"), FIT),
    "trainer.num_sanity_val_steps": Acts(6, of_trainer("num_sanity_val_steps"), FIT),
    "trainer.log_every_n_steps": Acts(3, of_trainer("log_every_n_steps"), FIT),
    "trainer.enable_checkpointing": Acts("false", lambda cli: len(cli.trainer.checkpoint_callbacks), FIT, group=1),
    "trainer.enable_progress_bar": Acts("false", callback("ProgressBar")),
    "trainer.enable_model_summary": Acts("true", summarises, FIT),
    "trainer.accumulate_grad_batches": Acts(2, of_trainer("accumulate_grad_batches"), FIT),
    "trainer.gradient_clip_val": Acts(0.5, of_trainer("gradient_clip_val"), FIT),
    "trainer.gradient_clip_algorithm": Acts("value", of_trainer("gradient_clip_algorithm"), FIT),
    "trainer.deterministic": Acts("true", lambda cli: torch.are_deterministic_algorithms_enabled()),
    "trainer.benchmark": Acts("true", lambda cli: torch.backends.cudnn.benchmark, group=1),
    "trainer.inference_mode": Acts("false", lambda cli: cli.trainer.validate_loop.inference_mode),
    "trainer.use_distributed_sampler": Acts(
        "false", lambda cli: cli.trainer._accelerator_connector.use_distributed_sampler
    ),
    "trainer.profiler": Acts("simple", lambda cli: type(cli.trainer.profiler).__name__),
    "trainer.detect_anomaly": Acts("true", of_trainer("_detect_anomaly"), FIT),
    "trainer.barebones": Acts("true", of_trainer("barebones"), FIT, group=4),
    "trainer.plugins": Acts("[]", lambda cli: type(cli.trainer.strategy.checkpoint_io).__name__, group=3),
    "trainer.sync_batchnorm": Acts(
        "true", lambda cli: getattr(cli.trainer.strategy, "_layer_sync", None) is not None, FIT
    ),
    "trainer.reload_dataloaders_every_n_epochs": Acts(2, of_trainer("reload_dataloaders_every_n_epochs"), FIT),
    "trainer.default_root_dir": Acts("elsewhere", lambda cli: Path(cli.trainer.default_root_dir).name, group=1),
    "trainer.enable_autolog_hparams": Acts("false", of_trainer("enable_autolog_hparams")),
    "trainer.model_registry": Acts("mine", to_verb("trainer"), ()),
    "max_batch_per_device": Acts(1, to_verb("max_batch_per_device"), FIT),
    "ema_decay": Acts(0.5, callback("EMAWeightAveraging"), FIT),
    "best_checkpoint.monitor": Acts("val/ssim", callback("BestCheckpoint", "monitor"), FIT),
    "best_checkpoint.mode": Acts("min", callback("BestCheckpoint", "mode"), FIT),
    "best_checkpoint.save_top_k": Acts(3, callback("BestCheckpoint", "save_top_k"), FIT),
    "last_checkpoint.every_n_train_steps": Acts(5, callback("LastCheckpoint", "every_n_train_steps"), FIT),
    "last_checkpoint.keep_last": Acts(5, callback("LastCheckpoint", "keep_last"), FIT),
    "watch.every_n_validations": Acts(5, callback("AttentionWatcher", "every_n_validations"), VALIDATION),
    "watch.sites": Acts(7, callback("AttentionWatcher", "sites"), VALIDATION),
    "run.accept_changes": Acts("true", callback("RunRecord", "accept_changes"), FIT),
    "ckpt_path": Acts("net.ckpt", to_verb("ckpt_path")),
    "verbose": Acts("true", to_verb("verbose"), ("validate", "test")),
    "return_predictions": Acts("true", to_verb("return_predictions"), ()),
    "model.optimizer": Acts("torch.optim.SGD", lambda cli: cli.model.make_optimizer, FIT),
    "model.scheduler": Acts(
        "trainers.schedules.WarmupCosine", lambda cli: cli.model.make_scheduler is not None, FIT, group=1
    ),
    "model.compile_backend": Acts("eager", lambda cli: cli.model.compile_backend, FIT),
    "model.logged_images": Acts(2, lambda cli: cli.model.logged_images, VALIDATION),
    "model.self_ensemble": Acts("true", lambda cli: cli.model.self_ensemble, ("validate", "test", "predict")),
    "model.tile": Acts(64, lambda cli: cli.model.tile),
    "data.patch_size": Acts(24, lambda cli: cli.datamodule.patch_size, FIT),
    "data.batch_size": Acts(3, lambda cli: cli.datamodule.batch_size, FIT),
    "data.num_workers": Acts(1, lambda cli: cli.datamodule.num_workers),
}
# Whole classes, files of options, and what ends the command; `weights_only` is true in any case, and false refused.
OTHERS = {"h", "help", "c", "config", "print_config", "trainer", "model", "data", "weights_only"}
# What Lightning refuses beside `barebones`.
BESIDE = ["--trainer.logger=false", "--trainer.enable_checkpointing=false", "--trainer.enable_progress_bar=false"]
OTHERS |= {"best_checkpoint", "last_checkpoint", "watch", "run"}


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes all objects of a command, and stops before they are used."""
    monkeypatch.setattr(LowrankCLI, "_run_subcommand", lambda cli, verb: None)
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    Path("net.ckpt").touch()
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    yield lambda verb, *options: LowrankCLI(args=[verb, "--config", "recipe.yaml", *map(str, options)])
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = False


@pytest.mark.parametrize("verb", TRAINER_VERBS)
def test_every_option_has_an_entry(verb, monkeypatch):
    options = {option.rstrip("+") for option in help_pages.parser_options(verb, monkeypatch)}
    options = {option for option in options - OTHERS if not option.endswith(".help")}
    assert options - OPTIONS.keys() == set()
    of_other_verbs = {option for option, acts in OPTIONS.items() if verb not in acts.verbs}
    of_classes = {option for option in OPTIONS if option.startswith(("model.", "data."))}
    assert OPTIONS.keys() - options <= of_other_verbs | of_classes


@pytest.mark.parametrize("verb", TRAINER_VERBS)
def test_every_option_reaches_what_it_sets(command, verb):
    usual = command(verb)
    before = {option: acts.found(usual) for option, acts in OPTIONS.items() if may_be_read(option, acts, verb)}
    ignored = []
    for group in {acts.group for acts in OPTIONS.values()}:
        given = {option: acts for option, acts in OPTIONS.items() if acts.group == group and verb in acts.verbs}
        if not given:
            continue
        beside = BESIDE if group == 4 else []
        cli = command(verb, *beside, *(word for option, acts in given.items() for word in (f"--{option}", acts.value)))
        ignored += [option for option, acts in given.items() if option in before and acts.found(cli) == before[option]]
    # The accelerator is the recipe's, and a plugin that reads data replaces the one that is left out.
    assert ignored == ["trainer.accelerator", "trainer.plugins"]


def may_be_read(option: str, acts: Acts, verb: str) -> bool:
    """What a time limit adds is not there without it."""
    return verb in acts.verbs and option != "trainer.max_time"


@pytest.mark.parametrize("verb", TRAINER_VERBS)
def test_every_other_option_is_refused_by_its_name(verb):
    classes = {"model": "trainers.RestorationTask", "data": "datamodules.DemoDataModule"}
    for option, acts in OPTIONS.items():
        words = ["--config", "recipe.yaml", f"--{option}={acts.value}"]
        if verb in acts.verbs:
            refuse_options_of_others(verb, words, classes)
        elif option != "verbose":  # which the parsers of other verbs do not know
            with pytest.raises(UsageError, match=rf"option --{option} must be ") as caught:
                refuse_options_of_others(verb, words, classes)
            assert all(f"lowrank {other}" in str(caught.value) or other == acts.verbs[-1] for other in acts.verbs[:1])


@pytest.mark.parametrize(
    "words",
    [
        ["--trainer.max_steps", "3"],
        ["--trainer", "{max_steps: 3}"],
        ['--trainer={"max_steps": 3}'],
        ["--model.init_args.optimizer.lr", "3"],
        ["--data", "{init_args: {batch_size: 3}}"],
        ["--data.init_args.stages+", "{start: 1, patch_size: 8, batch_size: 1}"],
    ],
)
def test_options_are_refused_however_they_are_written(words):
    classes = {"model": "trainers.RestorationTask", "data": "datamodules.DemoDataModule"}
    with pytest.raises(UsageError, match="must be given to lowrank fit only, got lowrank test; leave it out"):
        refuse_options_of_others("test", words, classes)


def test_what_options_of_other_packages_classes_do_is_not_known():
    words = ["--data.batch_size", "3", "--model.optimizer.lr", "1"]
    refuse_options_of_others("test", words, {"model": "mine.Task", "data": "mine.Data"})


def test_a_recipe_holds_options_of_every_verb_and_a_command_line_does_not(command, capsys):
    recipe = {**RECIPE, "trainer": {"accelerator": "cpu", "max_steps": 3, "default_root_dir": "elsewhere"}}
    Path("whole.yaml").write_text(yaml.safe_dump(recipe))
    assert command("test", "--config", "whole.yaml").trainer.max_steps == 3
    assert main(["test", "--config", "recipe.yaml", "--trainer.max_steps", "3"]) == 2
    assert "option --trainer.max_steps must be given to lowrank fit only, got lowrank test" in capsys.readouterr().err
    assert main(["fit", "--config", "recipe.yaml", "--trainer.default_root_dir", "elsewhere"]) == 2
    assert "--trainer.default_root_dir (elsewhere) must be left out where a logger" in capsys.readouterr().err


def test_training_options_do_not_change_what_is_evaluated():
    # Why they are refused: the sets that are evaluated are the same whatever patches are trained on.
    images = []
    for options in ({"patch_size": 16, "batch_size": 2}, {"patch_size": 32, "batch_size": 4}):
        data = DemoDataModule(eval_size=16, num_workers=0, **options)
        data.setup("validate")
        images.append([batch["input"] for loader in data.val_dataloader() for batch in loader])
    torch.testing.assert_close(*images, rtol=0, atol=0)
