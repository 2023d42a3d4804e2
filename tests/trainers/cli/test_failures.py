"""Every mistake of a user's ends in one clear message and exit status 2."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from glmha import Restormer

Lowrank = Callable[..., int]


def failing(capsys: pytest.CaptureFixture[str], status: int) -> str:
    """The message of a command that was refused, after checking that there is nothing else."""
    captured = capsys.readouterr()
    assert status == 2
    assert captured.err.startswith("error: ")
    assert captured.err.count("error: ") == 1
    assert "Traceback" not in captured.err
    assert captured.out == ""
    return captured.err.removeprefix("error: ").strip()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trainer.max_stepz", "3"], "option --trainer.max_stepz 3 is unknown; did you mean trainer.max_steps?"),
        (["--model.tiles", "3"], "option tiles is unknown to trainers.RestorationTask (model); did you mean tile?"),
        (["--model.net.dimm", "3"], "option dimm is unknown to glmha.Restormer (model.net); did you mean dim?"),
        (
            ["--model.net.attention.reducton", "0.4"],
            "option reducton is unknown to glmha.GLMHA (model.net.attention); did you mean reduction?",
        ),
        (
            ["--model.optimizer.weight_decai", "0"],
            "option weight_decai is unknown to torch.optim.AdamW (model.optimizer); did you mean weight_decay?",
        ),
        (["--model.net.dim", "wide"], "model.net.dim (wide) must be int"),
        (["--trainer.max_steps", "many"], "trainer.max_steps (many) must be int"),
        (
            ["--model.net", "glmha.Restormr"],
            "model.net (glmha.Restormr) must name a class, got nothing of that name; did you mean Restormer?",
        ),
        (
            ["--model.metrics", "[{class_path: trainers.metrics.PSNR, init_args: {space: lab}}]"],
            "model.metrics.space (lab) must be one of ['rgb', 'y', 'y_rounded']",
        ),
        (
            ["--model.net.attention", "[glmha.GLMHA, glmha.GLMA, glmha.GLMHA, glmha.GLMHA]"],
            "model.net.attention (glmha.GLMA) must name a class, got nothing of that name; did you mean GLMHA?",
        ),
        (["--model.net.attention", "5"], "model.net.attention (5) must be a class or a list"),
        (["--model.tile", "large"], "model.tile (large) must be int or null"),
        (["--model.tile", " "], "model.tile (empty) must be int or null"),
        (["extra"], "option extra is unknown"),
    ],
)
def test_misspelt_options_are_named_with_the_nearest(lowrank: Lowrank, recipe, capsys, arguments, message):
    assert failing(capsys, lowrank("fit", "--config", recipe, *arguments)) == message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "--trainer.max_step", "3"], "--trainer.max_step 3 is unknown; did you mean trainer.max_steps?"),
        (["restore", "photo.png", "--til", "64"], "--til 64 is unknown; did you mean tile?"),
    ],
)
def test_abbreviated_options_are_misspelt_ones(lowrank: Lowrank, recipe, capsys, arguments, message):
    required = ["--config", recipe] if arguments[0] == "fit" else ["--pretrained", "net.pth", "--output", "out"]
    assert failing(capsys, lowrank(arguments[0], *required, *arguments[1:])) == f"option {message}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model.net.attention.reduction", "1.0"], r"reduction \(1.0\) must be"),
        (["--model.net.heads", "[3, 3, 3, 3]"], r"heads \(3\) must divide channels \(4\)"),
        (["--model.net.num_blocks", "[1, 1]"], r"num_blocks \(\[1, 1\]\) must have four entries"),
        (["--data.patch_size", "0"], r"patch_size \(0\) must be at least 1"),
        (["--model.optimizer.lr", "-1"], r"Invalid learning rate: -1.0$"),
        (["--last_checkpoint.every_n_train_steps", "0"], r"every_n_train_steps \(0\) must be at least 1"),
        (["--trainer.log_every_n_steps", "0"], r"trainer.log_every_n_steps \(0\) must be at least 1"),
        (["--model.net.dim", "-8"], r"a size of the net \(-8\) must be at least 1"),
        (["--model.net", "null"], r"net \(null\) must be a network, or pretrained a checkpoint"),
        (["--trainer.accelerator", "cpu", "--trainer.devices", "0"], r"devices.*0"),
    ],
)
def test_values_out_of_range_say_what_is_allowed(lowrank: Lowrank, recipe, capsys, arguments, message):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.cuda.is_available", lambda: False)
        refusal = failing(capsys, lowrank("fit", "--config", recipe, *arguments))
    assert re.search(message, refusal), refusal
    assert "\n" not in refusal


def test_a_misspelt_key_of_a_recipe_is_named(lowrank: Lowrank, recipe: Path, capsys):
    recipe.write_text(recipe.read_text().replace("max_steps", "max_stepz"))
    assert (
        failing(capsys, lowrank("fit", "--config", recipe))
        == "option trainer.max_stepz of the recipe is unknown; did you mean trainer.max_steps?"
    )


def test_a_recipe_that_is_no_yaml_is_shown_with_the_line(lowrank: Lowrank, recipe: Path, capsys):
    recipe.write_text("trainer: [1\nmodel: 2\n")
    assert "line 2" in failing(capsys, lowrank("fit", "--config", recipe))


def test_a_missing_recipe_is_named_with_those_there_are(lowrank: Lowrank, capsys):
    message = failing(capsys, lowrank("fit", "--config", "demo/restormer_gmlha.yaml"))
    assert message.startswith("config (demo/restormer_gmlha.yaml) must be a file")
    assert message.endswith("did you mean demo/restormer_glmha.yaml?")


def test_no_recipe_says_what_to_give(lowrank: Lowrank, capsys):
    assert "--config" in failing(capsys, lowrank("fit"))


def test_an_unknown_verb_is_named_with_the_nearest(lowrank: Lowrank, capsys):
    assert failing(capsys, lowrank("restor")).endswith("did you mean restore?")


@pytest.mark.parametrize("argument", ["--model.pretrained", "--ckpt_path"])
def test_a_missing_checkpoint_is_named(lowrank: Lowrank, recipe, capsys, argument):
    assert "nowhere.ckpt" in failing(capsys, lowrank("test", "--config", recipe, argument, "nowhere.ckpt"))


@pytest.mark.parametrize("argument", ["--model.pretrained", "--ckpt_path"])
def test_a_file_that_is_no_checkpoint_is_named(lowrank: Lowrank, recipe, capsys, tmp_path, argument):
    broken = tmp_path / "broken.ckpt"
    broken.write_bytes(b"PK\x03\x04 not a checkpoint")
    assert "broken.ckpt" in failing(capsys, lowrank("test", "--config", recipe, argument, broken))


def test_pretrained_weights_of_another_net_are_refused(lowrank: Lowrank, recipe, capsys, tmp_path):
    other = Restormer(dim=8, num_blocks=[1, 1, 1, 1], num_refinement_blocks=1)
    torch.save({"params": other.state_dict()}, tmp_path / "other.pth")
    message = failing(capsys, lowrank("fit", "--config", recipe, "--model.pretrained", tmp_path / "other.pth"))
    assert "pretrained" in message
    assert "Restormer" in message
    assert "patch_embed.proj.weight (8×3×3×3 where 4×3×3×3 is due)" in message


def test_a_run_s_checkpoint_of_another_net_is_refused(lowrank: Lowrank, recipe, capsys, tmp_path):
    assert lowrank("fit", "--config", recipe) == 0
    capsys.readouterr()
    checkpoint = next(tmp_path.rglob("last.ckpt"))
    arguments = ["--model.net.dim", "8", "--ckpt_path", checkpoint]
    message = failing(capsys, lowrank("test", "--config", recipe, *arguments))
    assert message.startswith("ckpt_path must be a checkpoint of the same net (Restormer), got other tensors")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], r"trainer.max_steps \(4\) must be above the 4 steps .*: raise --trainer.max_steps"),
        (
            ["--trainer.max_steps", -1, "--trainer.max_epochs", 2],
            r"trainer.max_epochs \(2\) must be above the 2 epochs .*: raise --trainer.max_epochs",
        ),
        (
            ["--trainer.max_steps", 9, "--model.optimizer", "torch.optim.SGD"],
            r"model.optimizer \(torch.optim.sgd.SGD\) must be the one .*, got torch.optim.adamw.AdamW: choose that",
        ),
        # Of the same options as AdamW: its state would be taken, and AdamW go on.
        (["--trainer.max_steps", 9, "--model.optimizer", "torch.optim.Adam"], r"\(torch.optim.adam.Adam\) must be"),
        (["--trainer.max_steps", 9, "--model.net.dim", 8], "ckpt_path must be a checkpoint of the same net"),
        (["--trainer.max_steps", 9, "--ckpt_path", "nowhere.ckpt"], r"ckpt_path \(nowhere.ckpt\) must be a checkp"),
    ],
)
def test_a_run_that_cannot_go_on_is_refused_before_it_has_a_folder(
    lowrank: Lowrank, recipe, capsys, tmp_path, arguments, message
):
    assert lowrank("fit", "--config", recipe) == 0
    capsys.readouterr()
    refusal = failing(capsys, lowrank("fit", "--config", recipe, "--ckpt_path", "last", *arguments))
    assert re.search(message, refusal), refusal
    assert "\n" not in refusal
    assert [path.name for path in (tmp_path / "logs/run").iterdir()] == ["version_0"]


def test_patches_that_the_net_cannot_take_are_refused_before_there_is_a_folder(
    lowrank: Lowrank, recipe, capsys, tmp_path
):
    message = failing(capsys, lowrank("fit", "--config", recipe, "--data.patch_size", 12))
    assert message == "patch_size (12) must be a multiple of 8 for Restormer: give --data.patch_size 8 or 16"
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize("check", [2, 0])
def test_a_misspelt_score_is_named_with_the_nearest(lowrank: Lowrank, recipe, capsys, check):
    options = ["--best_checkpoint.monitor", "val/psrn", "--trainer.num_sanity_val_steps", check]
    message = failing(capsys, lowrank("fit", "--config", recipe, *options))
    assert message.startswith("best_checkpoint.monitor (val/psrn) must be a validation score, got val/psnr, val/ssim;")
    assert "did you mean val/psnr?" in message
    assert lowrank("fit", "--config", recipe, *options, "--best_checkpoint.save_top_k", 0) == 0


def test_a_baseline_of_another_constructor_is_named(lowrank: Lowrank, capsys, monkeypatch):
    monkeypatch.setattr("trainers.commands.bench.networks.build", lambda network, attention: nn.Linear(1, 1))
    for baseline in ("torch.nn.Linear", "Linear"):
        message = failing(capsys, lowrank("bench", "--baseline", baseline, "--size", 8))
        assert message.startswith(f"baseline ({baseline}) must be the import path of a class like Linear: ")


def test_released_weights_as_a_run_s_checkpoint_point_to_pretrained(lowrank: Lowrank, recipe, capsys, tmp_path):
    torch.save({"params": nn.Linear(1, 1).state_dict()}, tmp_path / "released.pth")
    message = failing(capsys, lowrank("test", "--config", recipe, "--ckpt_path", tmp_path / "released.pth"))
    assert "--model.pretrained" in message


def test_a_missing_folder_is_named(lowrank: Lowrank, recipe, capsys):
    assert "train_input (nowhere)" in failing(
        capsys, lowrank("fit", "--config", recipe, "--data.train_input", "nowhere")
    )


def test_an_empty_folder_is_named(lowrank: Lowrank, recipe, capsys, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "empty" in failing(capsys, lowrank("fit", "--config", recipe, "--data.train_target", tmp_path / "empty"))


def test_unequal_counts_are_counted(lowrank: Lowrank, recipe, pairs: Path, capsys):
    (pairs / "train/target/train0.png").unlink()
    message = failing(capsys, lowrank("fit", "--config", recipe))
    assert "4 and 3 images" in message


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_corrupt_image_is_named_whoever_reads_it(lowrank: Lowrank, recipe, pairs: Path, capsys, num_workers):
    (pairs / "test/input/test1.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    message = failing(capsys, lowrank("test", "--config", recipe, "--data.num_workers", num_workers))
    assert message.startswith("image ")
    assert "test1.png" in message
    assert "\n" not in message


def test_images_of_other_channels_than_the_net_s_are_refused(lowrank: Lowrank, recipe, capsys):
    arguments = ["--model.net.inp_channels", "6", "--model.net.dual_pixel_task", "true"]
    status = lowrank("fit", "--config", recipe, *arguments, "--data.channels", "1")
    assert "channels" in failing(capsys, status)


def test_nothing_is_written_in_place_of_metrics_when_a_test_fails(lowrank: Lowrank, recipe, pairs: Path, tmp_path):
    (pairs / "test/input/test2.png").write_bytes(b"broken")
    assert lowrank("test", "--config", recipe) == 2
    assert not list(tmp_path.rglob("metrics.json"))


def test_a_loss_that_explodes_names_the_batch_and_keeps_the_last_good_checkpoint(lowrank, recipe, capsys, tmp_path):
    options = ["--model.optimizer.lr", "1e30", "--last_checkpoint.every_n_train_steps", 1, "--trainer.max_steps", 50]
    message = failing(capsys, lowrank("fit", "--config", recipe, *options))
    assert re.match(
        r"(loss|gradient norm) must be finite, got (nan|inf) at step \d+ on the batch of train\d, train\d", message
    )
    last = next(tmp_path.rglob("last.ckpt"))
    assert f"--ckpt_path {last}" in message
    assert all(value.isfinite().all() for value in torch.load(last, weights_only=True)["state_dict"].values())


class Defective(nn.Module):
    """A network with a bug of its author's."""

    def __init__(self) -> None:
        super().__init__()
        self.missing  # noqa: B018


def test_bugs_keep_their_traceback(lowrank: Lowrank, recipe):
    # From within, jsonargparse makes a ValueError of it: that must not hide what it was.
    with pytest.raises(ValueError, match="has no attribute 'missing'"):
        lowrank("fit", "--config", recipe, "--model.net", f"{__name__}.Defective")


def test_the_traceback_is_there_on_request(lowrank: Lowrank, recipe, monkeypatch):
    monkeypatch.setenv("LOWRANK_TRACEBACK", "1")
    with pytest.raises(ValueError, match="reduction"):
        lowrank("fit", "--config", recipe, "--model.net.attention.reduction", "1.0")


@pytest.mark.parametrize("verb", ["fit", "validate", "test", "predict"])
def test_a_command_that_failed_before_its_first_result_leaves_no_log_folder(
    lowrank: Lowrank, recipe, capsys, tmp_path, verb
):
    split = {"fit": "train", "validate": "val"}.get(verb, "test")
    assert lowrank(verb, "--config", recipe, f"--data.{split}_input", "nowhere") == 2
    assert f"{split}_input (nowhere)" in capsys.readouterr().err
    assert not list((tmp_path / "logs").rglob("*.*"))


def test_a_log_folder_that_was_there_is_left_to_its_owner(lowrank: Lowrank, recipe, tmp_path):
    folder = tmp_path / "logs/run/version_5"
    folder.mkdir(parents=True)
    (folder / "hparams.yaml").touch()
    options = ["--trainer.logger.init_args.version", 5, "--data.test_input", "nowhere"]
    assert lowrank("test", "--config", recipe, *options) == 2
    assert (folder / "hparams.yaml").is_file()


def test_no_arguments_are_answered_with_a_recipe_for_own_pairs(lowrank: Lowrank, capsys):
    message = failing(capsys, lowrank("fit"))
    assert "--config train/pairs.yaml" in message
    assert "lowrank recipes" in message
