"""The command line: verbs, recipes, factories, records and reproducible runs."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn

from datamodules.files.images import read_image
from glmha import GLMHA, AttentionFactory, ChannelAttention, Restormer
from glmha.shared.released.download import digest_of
from trainers.cli.main import main
from trainers.cli.verbs import FUNCTION_VERBS, TRAINER_VERBS

Lowrank = Callable[..., int]
SLOW = pytest.mark.slow


def weights(folder: Path, run: int = 0) -> dict[str, Tensor]:
    """The weights at the end of a run."""
    return torch.load(folder / f"logs/run/version_{run}/checkpoints/last.ckpt", weights_only=True)["state_dict"]


def test_help_lists_every_verb_on_a_line(capsys):
    assert main(["--help"]) == main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    for verb in [*TRAINER_VERBS, *FUNCTION_VERBS]:
        assert any(line.startswith(f"  {verb} ") for line in lines)


@pytest.mark.parametrize("verb", [*TRAINER_VERBS, *FUNCTION_VERBS])
def test_every_verb_has_help(verb, capsys):
    assert main([verb, "--help"]) == 0
    assert "usage: lowrank" in capsys.readouterr().out


def test_a_run_is_silent_but_for_its_results(lowrank: Lowrank, recipe, capsys):
    assert lowrank("fit", "--config", recipe) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert [line.split(":")[0] for line in captured.out.splitlines()] == [
        "log folder",
        "trained",
        "last checkpoint",
        "best checkpoint",
        "to evaluate it",
        "to restore images",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "first"),
    [
        (["--trainer.fast_dev_run", "true"], None),
        (["--trainer.logger", "false"], "log folder: {work}"),
        pytest.param(
            ["--trainer.logger", "lightning.pytorch.loggers.CSVLogger", "--trainer.logger.save_dir", "csv"],
            "log folder: csv/run/version_0",
            marks=SLOW,
        ),
        ([], "log folder: {logs} (see it with: tensorboard --logdir {logs})"),
    ],
)
def test_the_log_folder_is_told_if_there_is_one(lowrank: Lowrank, recipe, capsys, tmp_path, options, first):
    assert lowrank("fit", "--config", recipe, *options) == 0
    printed = capsys.readouterr().out.splitlines()
    if first is None:
        assert not [line for line in printed if "folder" in line]
    else:
        assert printed[0] == first.format(work=tmp_path / "work", logs=tmp_path / "logs/run/version_0")


@pytest.mark.slow
def test_two_runs_of_one_seed_agree_bit_for_bit(lowrank: Lowrank, recipe, tmp_path):
    options = ["--trainer.max_steps", 5, "--data.num_workers", 1]
    for seed in (3, 3, 4):
        assert lowrank("fit", "--config", recipe, *options, "--seed_everything", seed) == 0
    torch.testing.assert_close(weights(tmp_path, 1), weights(tmp_path, 0), rtol=0, atol=0)
    assert any(not torch.equal(value, weights(tmp_path, 0)[key]) for key, value in weights(tmp_path, 2).items())


def test_the_saved_recipe_reproduces_the_run(lowrank: Lowrank, recipe, tmp_path):
    assert lowrank("fit", "--config", recipe, "--model.net.attention.alpha", 0.3, "--trainer.max_steps", 3) == 0
    record = tmp_path / "logs/run/version_0/config.yaml"
    assert yaml.safe_load(record.read_text())["model"]["init_args"]["net"]["init_args"]["attention"]["init_args"][
        "alpha"
    ] == pytest.approx(0.3)
    assert lowrank("fit", "--config", record) == 0
    assert (tmp_path / "logs/run/version_1/config.yaml").read_text() == record.read_text()
    torch.testing.assert_close(weights(tmp_path, 1), weights(tmp_path, 0), rtol=0, atol=0)


@pytest.mark.parametrize("verb", [pytest.param("validate", marks=SLOW), "test", pytest.param("predict", marks=SLOW)])
def test_the_saved_recipe_evaluates_the_checkpoint(lowrank: Lowrank, recipe, tmp_path, verb, capsys):
    assert lowrank("fit", "--config", recipe) == 0
    run = tmp_path / "logs/run/version_0"
    checkpoint = run / "checkpoints/last.ckpt"
    assert lowrank(verb, "--config", run / "config.yaml", "--ckpt_path", checkpoint) == 0
    if verb != "predict":
        metrics = yaml.safe_load((tmp_path / "logs/run/version_1/metrics.json").read_text())
        assert metrics["weights"] == {"path": str(checkpoint), "sha256": digest_of(checkpoint), "ema": False}


def test_command_line_beats_checkpoint_and_recipe(lowrank: Lowrank, recipe, tmp_path):
    # Nothing of a checkpoint but weights and state is obeyed: asked for dense attention, one never gets low-rank.
    assert lowrank("fit", "--config", recipe) == 0
    assert "hyper_parameters" not in torch.load(next(tmp_path.rglob("last.ckpt")), weights_only=True)
    dense = ["--model.net.attention", "glmha.ChannelAttention"]
    assert lowrank("test", "--config", recipe, *dense, "--ckpt_path", next(tmp_path.rglob("last.ckpt"))) == 2


def test_a_log_folder_of_another_run_is_refused(lowrank: Lowrank, recipe, capsys):
    options = ["--trainer.logger.init_args.version", 7]
    assert lowrank("fit", "--config", recipe, *options) == 0
    capsys.readouterr()
    assert lowrank("test", "--config", recipe, *options) == 2
    assert "must not hold another run's config.yaml" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ["--trainer.enable_checkpointing", "false"],
        pytest.param(["--trainer.fast_dev_run", "true"], marks=SLOW),
        pytest.param(["--trainer.logger", "false"], marks=SLOW),
        pytest.param(
            ["--trainer.logger", "lightning.pytorch.loggers.CSVLogger", "--trainer.logger.save_dir", "csv"], marks=SLOW
        ),
        ["--trainer.callbacks+", "lightning.pytorch.callbacks.EMAWeightAveraging"],
        pytest.param(["--trainer.precision", "bf16-mixed"], marks=SLOW),
        ["--trainer.precision", "bf16-true"],
        ["--data.val_input", "null", "--data.val_target", "null"],
    ],
)
@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")
def test_options_of_lightning_work(lowrank: Lowrank, recipe, options):
    assert lowrank("fit", "--config", recipe, *options) == 0


class Attentive(nn.Module):
    """A network that takes a factory, or one for each of two levels, and remembers what it was given."""

    def __init__(self, attention: Sequence[AttentionFactory] | AttentionFactory = ChannelAttention) -> None:
        super().__init__()
        factories = attention if isinstance(attention, Sequence) else [attention] * 2
        self.levels = nn.ModuleList(factory(8, heads) for factory, heads in zip(factories, (1, 2), strict=True))

    def forward(self, image: Tensor) -> Tensor:
        return image + self.levels[0](image.mean(1, keepdim=True).expand(-1, 8, -1, -1)).mean(1, keepdim=True)


GLMHA_HALF = {"class_path": "glmha.GLMHA", "init_args": {"reduction": 0.75, "alpha": 0.3}}


@pytest.mark.parametrize(
    ("attention", "classes"),
    [
        (None, [ChannelAttention, ChannelAttention]),
        ("glmha.GLMHA", [GLMHA, GLMHA]),
        (GLMHA_HALF, [GLMHA, GLMHA]),
        ([GLMHA_HALF, "glmha.ChannelAttention"], [GLMHA, ChannelAttention]),
    ],
)
def test_recipes_bind_attention_factories_and_keep_them(lowrank: Lowrank, recipe: Path, tmp_path, attention, classes):
    config = yaml.safe_load(recipe.read_text())
    config["model"]["init_args"]["net"] = {
        "class_path": f"{__name__}.Attentive",
        "init_args": {} if attention is None else {"attention": attention},
    }
    recipe.write_text(yaml.safe_dump(config))
    made: list[Attentive] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainers.tasks.evaluation.initialise", lambda net, pretrained: made.append(net) or net)
        assert lowrank("fit", "--config", recipe) == 0
        # Once more from the record: what was saved is what was asked for.
        assert lowrank("fit", "--config", tmp_path / "logs/run/version_0/config.yaml") == 0
    for net in made:
        assert [type(level) for level in net.levels] == classes
        assert [level.heads for level in net.levels] == [1, 2]
        if attention not in (None, "glmha.GLMHA"):
            assert net.levels[0].reduction == 0.75
            assert net.levels[0].alpha == 0.3
    assert len(made) == 2


# As outside of tests, where jsonargparse only warns of what it cannot write into the record.
@pytest.mark.filterwarnings("default::UserWarning")
def test_a_recipe_gives_restormer_an_attention_per_level(lowrank: Lowrank, recipe: Path, tmp_path):
    config = yaml.safe_load(recipe.read_text())
    levels = [GLMHA_HALF, "glmha.GLMHA", GLMHA_HALF, "glmha.ChannelAttention"]
    config["model"]["init_args"]["net"]["init_args"]["attention"] = levels
    recipe.write_text(yaml.safe_dump(config))
    assert lowrank("fit", "--config", recipe) == 0
    record = tmp_path / "logs/run/version_0/config.yaml"
    saved = yaml.safe_load(record.read_text())["model"]["init_args"]["net"]["init_args"]["attention"]
    assert [entry["class_path"] for entry in saved] == ["glmha.GLMHA"] * 3 + ["glmha.ChannelAttention"]
    assert lowrank("fit", "--config", record) == 0
    torch.testing.assert_close(weights(tmp_path, 1), weights(tmp_path, 0), rtol=0, atol=0)


def test_recipes_are_found_here_first_and_then_among_the_installed(lowrank: Lowrank, recipe: Path, capsys):
    for name in ("demo/restormer_csa.yaml", "configs/demo/restormer_csa.yaml"):
        assert lowrank("fit", "--config", name, "--print_config") == 0
        assert "demo_restormer_csa" in capsys.readouterr().out
    Path("demo").mkdir()
    Path("demo/restormer_csa.yaml").write_text(recipe.read_text())
    assert lowrank("fit", "--config=demo/restormer_csa.yaml", "--print_config") == 0
    printed = capsys.readouterr().out
    assert "demo_restormer_csa" not in printed
    assert "PairedFolderDataModule" in printed


def test_another_optimizer_brings_its_own_defaults(lowrank: Lowrank, capsys):
    task = ("--model=trainers.RestorationTask", "--model.net=glmha.Restormer", "--data=datamodules.DemoDataModule")
    assert lowrank("fit", *task, "--model.optimizer=torch.optim.Adam", "--print_config") == 0
    optimizer = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]["optimizer"]
    assert optimizer["class_path"] == "torch.optim.Adam"
    # AdamW's is 0.01.
    assert optimizer["init_args"]["weight_decay"] == 0


def test_restore_takes_images_and_folders(lowrank: Lowrank, pairs: Path, tmp_path):
    net = Restormer(dim=4, num_blocks=[1, 1, 1, 1], num_refinement_blocks=1, heads=[1, 1, 2, 2])
    torch.save({"params": net.state_dict()}, tmp_path / "net.pth")
    images = [pairs / "test/input", pairs / "val/input/val0.png"]
    assert lowrank("restore", *images, "--pretrained", tmp_path / "net.pth", "--output", tmp_path / "out") == 0
    restored = {path.name: read_image(path) for path in (tmp_path / "out").rglob("*.png")}
    assert restored.keys() == {"test0.png", "test1.png", "test2.png", "val0.png"}
    assert all(image.shape == (24, 32, 3) and image.dtype == np.uint8 for image in restored.values())


def test_a_run_says_nothing_of_lightning_s(recipe, tmp_path):
    # In a process of its own: Lightning sets the levels of its loggers when it is first imported.
    done = subprocess.run(
        [sys.executable, "-m", "trainers", "fit", "--config", str(recipe), "--trainer.max_steps", "1"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert not [word for word in ("Tip", "GPU available", "Seed set", "weights_only", "Warning") if word in done.stderr]
