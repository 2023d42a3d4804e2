"""Fine-tuning in two real processes on the CPU: what one process computes, and checkpoints that one process reads."""

import json
import os
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from glmha import Restormer
from tests.trainers.checkpoints.resuming import PROCESSES
from tests.trainers.devices.distributed_run import run_commands
from tests.trainers.devices.test_distributed import BIN, LIMIT, ROOT, assert_same, environment, load
from trainers.networks import load_network

STRATEGIES = ("ddp", "fully_sharded")
# Rounding does not upset it.
SGD = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.01, "momentum": 0.9}}


def of_substitution(config: dict[str, Any], folder: Path) -> None:
    """The recipe of `tuning`, against the teacher's image as well, with another kernel after a step."""
    options = config["model"]["init_args"]
    options["kernel_schedule"] = {1: {"class_path": "nystra.Nystrom", "init_args": {"landmarks": 4}}}
    options["teacher_image"] = 0.5


def of_adapters(config: dict[str, Any], folder: Path) -> None:
    """Low-rank adapters alone are trained."""
    config["model"]["init_args"] |= {"trainable": "adapters", "adapter_rank": 2}


def of_warm_start(config: dict[str, Any], folder: Path) -> None:
    """A start from dense weights, of which every process gets the same."""
    torch.manual_seed(0)
    net = Restormer(dim=4, num_blocks=[1, 1, 1, 1], num_refinement_blocks=1, heads=[1, 1, 2, 2])
    torch.save(net.state_dict(), folder / "dense.pth")
    options = config["model"]["init_args"]
    for name in ("kernel", "window_size", "position_bias"):
        del options[name]
    config["model"]["class_path"] = "trainers.WarmStartTask"
    options |= {"pretrained": str(folder / "dense.pth"), "calibration": 2}
    options["attention"] = {"class_path": "glmha.GLMHA", "init_args": {"reduction": 0.5}}


TASKS = {"substitution": of_substitution, "adapters": of_adapters, "warm start": of_warm_start}


def prepared(recipe: Path, folder: Path, task: str) -> Path:
    config = yaml.safe_load(recipe.read_text())
    config["trainer"] |= {"max_steps": 2, "check_val_every_n_epoch": 1}
    config["model"]["init_args"] |= {"optimizer": SGD, "scheduler": None}
    config["data"]["init_args"]["batch_size"] = 4
    TASKS[task](config, folder)
    recipe.write_text(yaml.safe_dump(config))
    return recipe


def run_two(folder: Path, *commands: list[str]) -> None:
    script = ROOT / "tests/trainers/devices/distributed_run.py"
    launch = [BIN / "torchrun", "--standalone", "--nproc_per_node", "2", script, folder, json.dumps(commands)]
    ended = subprocess.run(launch, env=environment(), cwd=folder, capture_output=True, text=True, timeout=LIMIT)
    assert ended.returncode == 0, ended.stderr
    for rank in range(2):
        assert (folder / f"status-{rank}.txt").read_text() == " ".join("0" for _ in commands), ended.stderr


def named(recipe: Path, name: str, *options: object) -> list[str]:
    return ["fit", "--config", str(recipe), "--trainer.logger.init_args.name", name, *map(str, options)]


def both(recipe: Path, strategy: str, *options: object) -> list[str]:
    return named(recipe, strategy, "--trainer.devices", 2, "--trainer.strategy", strategy, *options)


def assert_read_by_one(folder: Path, name: str, alone: Mapping[str, Any], version: int = 0) -> None:
    """A checkpoint of two processes is one file of whole weights, for the readers of one process."""
    path = folder / f"logs/{name}/version_{version}/checkpoints/last.ckpt"
    restored = load_network(path)(torch.full((1, 3, 16, 16), 0.5))
    torch.testing.assert_close(
        restored, load_network(folder / "logs/one/version_0/checkpoints/last.ckpt")(torch.full((1, 3, 16, 16), 0.5))
    )
    assert load(folder, name, version)["global_step"] == alone["global_step"]


def run_one_of_two(rank: int, port: int, folder: Path, command: list[str]) -> None:
    os.chdir(folder)
    os.environ.update(LOCAL_RANK=str(rank), RANK=str(rank), NODE_RANK="0", WORLD_SIZE="2")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    run_commands(folder, [command])


def test_substitution_in_two_processes_computes_what_one_does(tuning: Path, tmp_path: Path, lowrank):
    recipe = prepared(tuning, tmp_path, "substitution")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Forked off from a server that has imported everything.
    arguments = [(rank, port, tmp_path, both(recipe, "ddp")) for rank in range(2)]
    processes = [PROCESSES.Process(target=run_one_of_two, args=each, daemon=True) for each in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(LIMIT)
        assert process.exitcode == 0
    assert [(tmp_path / f"status-{rank}.txt").read_text() for rank in range(2)] == ["0", "0"]
    assert lowrank(*named(recipe, "one")) == 0
    alone = load(tmp_path, "one")
    assert_same(load(tmp_path, "ddp"), alone)
    assert_read_by_one(tmp_path, "ddp", alone)
    figures = [
        json.loads((tmp_path / f"logs/{name}/version_0/fine_tuning.json").read_text()) for name in ("one", "ddp")
    ]
    for key in ("exact", "substituted", "now"):
        assert figures[1][key] == pytest.approx(figures[0][key], abs=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_fine_tuning_in_two_processes_computes_what_one_does(tuning: Path, tmp_path: Path, lowrank, task):
    recipe = prepared(tuning, tmp_path, task)
    first = ["--trainer.max_steps", 1]
    commands = [both(recipe, "ddp"), both(recipe, "fully_sharded"), both(recipe, "fully_sharded", *first)]
    commands += [both(recipe, "fully_sharded", "--ckpt_path", "last"), both(recipe, "ddp", *first)]
    run_two(tmp_path, *commands)
    assert lowrank(*named(recipe, "one")) == 0
    # The checkpoint of two processes goes on in one.
    assert lowrank(*named(recipe, "ddp", "--ckpt_path", "last")) == 0
    alone = load(tmp_path, "one")
    for name, version in (("ddp", 0), ("ddp", 2), ("fully_sharded", 0), ("fully_sharded", 2)):
        assert_same(load(tmp_path, name, version), alone)
        assert_read_by_one(tmp_path, name, alone, version)
