"""What a recipe may add to training and evaluation: mixtures, averages, precision, compiled steps, self-ensemble."""

import copy
import functools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from torch import nn
from torch.utils.data import DataLoader, Dataset

from glmha import GLMHA, load_pretrained
from glmha.hosts.restormer import TransformerBlock
from trainers import Mixup, RestorationTask
from trainers.devices.averaging import weight_averaging
from trainers.tiling.restoration import restore

QUICK = ["--trainer.max_steps", 2, "--trainer.limit_val_batches", 0, "--best_checkpoint.save_top_k", 0]


def last(folder: Path, run: int = 0) -> dict:
    return torch.load(folder / f"logs/run/version_{run}/checkpoints/last.ckpt", weights_only=True)


def record(folder: Path, run: int) -> dict:
    return json.loads((folder / f"logs/run/version_{run}/metrics.json").read_text())


def test_a_mixture_is_of_images_and_targets_alike():
    torch.manual_seed(0)
    images = torch.eye(4)
    mixed = Mixup(share=1.0)({"input": images, "target": 2 * images, "name": list("abcd")})
    torch.testing.assert_close(mixed["target"], 2 * mixed["input"])
    torch.testing.assert_close(mixed["input"].sum(1), torch.ones(4))
    weights = mixed["input"].diagonal()
    # One weight for all, but where an image was mixed with itself.
    assert len(set(weights[weights < 1].tolist())) == 1
    assert mixed["name"] == list("abcd")
    torch.testing.assert_close(images, torch.eye(4))


def test_mixtures_are_as_frequent_and_as_strong_as_upstreams():
    torch.manual_seed(0)
    drawn = [Mixup()({"input": torch.eye(2), "target": torch.eye(2)})["input"][0, 0].item() for _ in range(2000)]
    weights = np.array([weight for weight in drawn if weight < 1])
    # Half of the batches are mixed, and half of those with themselves.
    assert len(weights) / 2000 == pytest.approx(1 / 4, abs=0.03)
    # Beta(β, β) has the variance 1 / (4 (2β + 1)).
    assert weights.mean() == pytest.approx(0.5, abs=0.04)
    assert weights.var() == pytest.approx(1 / (4 * 3.4), rel=0.2)


@pytest.mark.parametrize(("values", "message"), [({"beta": 0.0}, "beta"), ({"share": 0.0}, "share")])
def test_mixtures_out_of_range_are_refused(values, message):
    with pytest.raises(ValueError, match=rf"{message} \(0.0\) of mixup must be above 0"):
        Mixup(**values)


def test_mixtures_go_on_where_a_run_was_stopped(lowrank, recipe, tmp_path):
    mixed = ["--config", recipe, "--model.mixup.share", 1.0, *QUICK[2:]]
    assert lowrank("fit", *mixed, "--trainer.max_steps", 3) == 0
    assert lowrank("fit", *mixed, "--trainer.max_steps", 1) == 0
    assert lowrank("fit", *mixed, "--trainer.max_steps", 3, "--ckpt_path", "last") == 0
    assert lowrank("fit", "--config", recipe, *QUICK[2:], "--trainer.max_steps", 3) == 0
    straight, _, resumed, plain = (last(tmp_path, run)["state_dict"] for run in range(4))
    torch.testing.assert_close(resumed, straight, rtol=0, atol=0)
    assert any(not torch.equal(plain[key], value) for key, value in straight.items())


def test_the_average_is_what_is_validated_kept_and_recorded(lowrank, recipe, tmp_path):
    recipe.write_text(recipe.read_text() + "\nema_decay: 0.5\n")
    averaged = ["--config", recipe]
    assert lowrank("fit", *averaged) == 0
    checkpoint = last(tmp_path)
    trained, average = checkpoint["current_model_state"], checkpoint["state_dict"]
    assert any(not torch.equal(trained[key], value) for key, value in average.items())
    path = tmp_path / "logs/run/version_0/checkpoints/last.ckpt"
    for run, verb in ((1, "test"), (2, "validate")):
        assert lowrank(verb, *averaged, "--ckpt_path", path) == 0
        assert record(tmp_path, run)["weights"]["ema"] is True
    # What training showed is the average's.
    score = next(
        state["best_model_score"] for key, state in checkpoint["callbacks"].items() if key.startswith("BestCheckpoint")
    )
    assert record(tmp_path, 2)["average"]["psnr"] == pytest.approx(score.item(), abs=1e-3)
    torch.testing.assert_close(load_pretrained(path).state_dict()["output.weight"], average["net.output.weight"])


@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_an_average_that_is_none_is_refused(decay):
    with pytest.raises(ValueError, match=r"ema_decay \(\d.0\) must be above 0 and below 1"):
        weight_averaging(decay)


def test_mixed_precision_trains_as_float32_does(lowrank, recipe, tmp_path):
    logger = ["--trainer.logger", "lightning.pytorch.loggers.CSVLogger", "--trainer.logger.save_dir", "csv"]
    for precision in ("32-true", "bf16-mixed"):
        options = [*QUICK, "--trainer.max_steps", 10, *logger, "--trainer.precision", precision]
        assert lowrank("fit", "--config", recipe, *options) == 0
    curves = []
    for run in range(2):
        lines = Path(f"csv/run/version_{run}/metrics.csv").read_text().splitlines()
        column = lines[0].split(",").index("train/loss")
        curves.append([float(value) for line in lines[1:] if (value := line.split(",")[column])])
    assert len(curves[0]) == len(curves[1]) == 10
    assert all(map(math.isfinite, curves[1]))
    assert curves[1] != curves[0]
    np.testing.assert_allclose(curves[1], curves[0], rtol=0.02)


class Patches(Dataset):
    """Two random patches and their negatives."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> dict[str, object]:
        image = torch.rand(4, 8, 8, generator=torch.Generator().manual_seed(index))
        return {"input": image, "target": 1 - image, "name": str(index)}


@pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers")
@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no")
@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec")
def test_compiled_training_is_training_and_its_checkpoints_are_plain(tmp_path):
    torch.manual_seed(0)
    block = TransformerBlock(4, GLMHA(4, 1, alpha=0.7), 2.0, bias=False, centred=True)
    states = []
    for backend in (None, "aot_eager"):
        sgd = functools.partial(torch.optim.SGD, lr=0.1)
        task = RestorationTask(copy.deepcopy(block), optimizer=sgd, compile_backend=backend)
        options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = Trainer(
            accelerator="cpu", max_steps=2, enable_model_summary=False, default_root_dir=tmp_path, **options
        )
        trainer.fit(task, DataLoader(Patches()))
        trainer.save_checkpoint(tmp_path / "last.ckpt")
        states.append(torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"])
    assert task.trained_net is not task.net
    assert states[1].keys() == states[0].keys()
    torch.testing.assert_close(states[1], states[0])
    assert not torch.equal(states[0]["net.ffn.project_out.weight"], block.ffn.project_out.weight)


def test_evaluation_is_not_compiled():
    task = RestorationTask(nn.Conv2d(3, 3, 3, padding=1), compile_backend="eager")
    with torch.no_grad():
        assert task.trained_net is task.net
    compiled = task.trained_net
    assert compiled is not task.net
    assert task.trained_net is compiled
    assert list(task.state_dict()) == ["net.weight", "net.bias"]


def test_an_unknown_compiler_is_refused():
    with pytest.raises(ValueError, match=r"compile_backend \(nobody\) must be null or one of .*inductor"):
        RestorationTask(nn.Conv2d(3, 3, 1), compile_backend="nobody")


def test_a_task_tells_its_network_to_recompute(recipe, lowrank, tmp_path, capsys):
    assert lowrank("fit", "--config", recipe, *QUICK) == 0
    assert lowrank("fit", "--config", recipe, *QUICK, "--model.checkpoint_activations", "true") == 0
    kept, recomputed = (last(tmp_path, run)["state_dict"] for run in range(2))
    torch.testing.assert_close(recomputed, kept)
    with pytest.raises(ValueError, match="must be false for Conv2d"):
        RestorationTask(nn.Conv2d(3, 3, 1), checkpoint_activations=True)


def test_the_ensemble_is_asked_for_and_recorded(lowrank, recipe, tmp_path, monkeypatch):
    asked = []

    def spy(*args: object, **options: object) -> torch.Tensor:
        asked.append(options["self_ensemble"])
        return restore(*args, **options)

    monkeypatch.setattr("trainers.tiling.clips.restore", spy)
    config = yaml.safe_load(recipe.read_text())
    config["model"]["init_args"]["self_ensemble"] = True
    both = tmp_path / "both.yaml"
    both.write_text(yaml.safe_dump(config))
    options = ["--config", both]
    # Training validates without.
    assert lowrank("fit", *options, "--trainer.max_steps", 4) == 0
    assert set(asked) == {False}
    asked.clear()
    for verb in ("test", "predict"):
        assert lowrank(verb, *options, "--ckpt_path", "last") == 0
    assert set(asked) == {True}
    assert record(tmp_path, 1)["self_ensemble"] is True
    assert (
        lowrank("test", "--config", recipe, "--ckpt_path", tmp_path / "logs/run/version_0/checkpoints/last.ckpt") == 0
    )
    plain = record(tmp_path, 3)
    assert plain["self_ensemble"] is False
    assert plain["average"]["psnr"] != record(tmp_path, 1)["average"]["psnr"]


def test_a_camera_s_snapshots_have_no_ensemble():
    from types import SimpleNamespace

    from glmha import MST
    from trainers import SpectralTask

    task = SpectralTask(net=MST(dim=3, num_blocks=[1, 1, 1]), self_ensemble=True)
    task._trainer = SimpleNamespace(state=SimpleNamespace(fn="test"))
    batch = {"input": torch.rand(1, 3, 8, 8), "mask": torch.rand(1, 3, 8, 12)}
    with pytest.raises(ValueError, match=r"self_ensemble \(True\) must be false for snapshots"):
        task.restore(batch)
