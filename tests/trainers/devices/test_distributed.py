"""Two real processes on the CPU: what one process computes, each sample once, one that writes, none that hangs."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from glmha import load_pretrained
from tests.trainers.devices.distributed_run import CALLBACKS
from trainers import FullySharded, RestorationTask
from trainers.cli.main import main

ROOT = Path(__file__).parents[3]
BIN = Path(sys.executable).parent
LIMIT = 240  # seconds, of a whole run on a machine that is busy with others


def environment(**values: str) -> dict[str, str]:
    """This process's, without traces of tests before."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PL_", "SLURM_", "LOWRANK_"))}
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": f"{BIN}:{os.environ['PATH']}", **values}


def load(folder: Path, name: str, version: int = 0) -> dict[str, Any]:
    return torch.load(folder / f"logs/{name}/version_{version}/checkpoints/last.ckpt", weights_only=True)


@pytest.fixture
def distributed(recipe: Path, tmp_path: Path) -> Path:
    """The recipe for three steps of four patches, by an optimiser that rounding does not upset."""
    config = yaml.safe_load(recipe.read_text())
    config["trainer"] |= {"max_steps": 3, "check_val_every_n_epoch": 1}
    config["model"]["init_args"] |= {
        "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1, "momentum": 0.9}}
    }
    config["data"]["init_args"]["batch_size"] = 4
    recipe.write_text(yaml.safe_dump(config))
    return recipe


def seen(folder: Path, stage: str) -> list[list[str]]:
    """Names that each of the two processes saw."""
    return [(folder / f"{stage}-{rank}.txt").read_text().split() for rank in range(2)]


def assert_same(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    torch.testing.assert_close(dict(found["state_dict"]), dict(expected["state_dict"]), rtol=1e-4, atol=1e-6)
    for one, two in zip(found["optimizer_states"], expected["optimizer_states"], strict=True):
        # Shared out, they are kept by name, in the same order.
        for state, other in zip(one["state"].values(), two["state"].values(), strict=True):
            torch.testing.assert_close(state["momentum_buffer"], other["momentum_buffer"], rtol=1e-3, atol=1e-6)


@pytest.mark.slow
def test_two_processes_compute_what_one_does(distributed: Path, tmp_path: Path, monkeypatch):
    script = ROOT / "tests/trainers/devices/distributed_run.py"
    command = [BIN / "torchrun", "--standalone", "--nproc_per_node", "2", script, tmp_path]
    ended = subprocess.run(command, env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT)
    assert ended.returncode == 0, ended.stderr
    for rank in range(2):
        assert (tmp_path / f"status-{rank}.txt").read_text() == "0 0 0 0 2", ended.stderr
    assert "4 samples a step = 2 devices × 2 × 1 accumulated" in ended.stdout
    assert "ema_decay must be null with strategy fully_sharded" in ended.stderr

    # Alone, in this process.
    monkeypatch.chdir(tmp_path)
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    one = ["--config", str(distributed), "--trainer.logger.init_args.name", "one"]
    assert main(["fit", *one]) == 0
    assert main(["test", *one, "--ckpt_path", "last"]) == 0
    alone, ddp, sharded = load(tmp_path, "one"), load(tmp_path, "ddp"), load(tmp_path, "sharded", 1)
    assert alone["global_step"] == ddp["global_step"] == sharded["global_step"] == 3
    # The weights, and what the gradients of all steps add up to.
    assert_same(ddp, alone)
    # Shared out, and stopped and resumed after two steps.
    assert load(tmp_path, "sharded")["global_step"] == 2
    assert_same(sharded, alone)
    # Such a checkpoint is one file, of whole weights.
    path = tmp_path / "logs/sharded/version_1/checkpoints/last.ckpt"
    weights = load_pretrained(path).state_dict()
    torch.testing.assert_close(weights["output.weight"], alone["state_dict"]["net.output.weight"], rtol=1e-4, atol=1e-6)

    # Every sample once: four training images in each of three epochs, half of them in each process.
    train = seen(tmp_path, "train")
    assert [len(names) for names in train] == [6, 6]
    for epoch in range(3):
        part = [name for names in train for name in names[2 * epoch : 2 * epoch + 2]]
        assert sorted(part) == [f"train{index}" for index in range(4)]
    # Both validate one of two images in three epochs; of three test images one is repeated, and counted once.
    assert sorted(map(len, seen(tmp_path, "val"))) == [3, 3]
    assert {*seen(tmp_path, "val")[0]}.isdisjoint(seen(tmp_path, "val")[1])
    assert {name for names in seen(tmp_path, "test") for name in names} == {"test0", "test1", "test2"}
    records = [json.loads((tmp_path / f"logs/{name}/version_1/metrics.json").read_text()) for name in ("ddp", "one")]
    [both, single] = [record["sets"]["test"] for record in records]
    assert both["images"] == single["images"] == 3
    assert both["mean"] == pytest.approx(single["mean"], abs=2e-3)
    assert both["per_image"].keys() == single["per_image"].keys()

    # The second process writes nothing.
    assert not (tmp_path / "writes-1.txt").exists()
    written = (tmp_path / "writes-0.txt").read_text()
    assert all(name in written for name in ("last.ckpt", "metrics.json"))


def test_tiles_are_refused_where_weights_are_shared_out():
    task = RestorationTask(net=nn.Identity(), tile=16)
    task._trainer = SimpleNamespace(strategy=FullySharded(), callbacks=[], world_size=2)
    with pytest.raises(ValueError, match=r"tile \(16\) must be null with strategy fully_sharded on several devices"):
        task.configure_model()


@pytest.mark.slow
def test_a_process_that_dies_ends_the_other_with_a_message(distributed: Path, tmp_path: Path):
    command = [BIN / "lowrank", "fit", "--config", distributed, "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    command += [
        "--trainer.callbacks+",
        f"{CALLBACKS}.Dies",
        "--trainer.limit_val_batches",
        "0",
    ]
    command += ["--best_checkpoint.save_top_k", "0", "--trainer.max_steps", "100000"]
    started = time.monotonic()
    ended = subprocess.run(command, env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT)
    assert time.monotonic() - started < LIMIT
    assert ended.returncode not in (0, None)
    told = ended.stderr + ended.stdout
    assert "another process of this run has ended" in told or "terminated with code -9" in told, told
    assert "Traceback" not in told, told


# Starts the tasks of a job as SLURM does, on this machine; a bad exit ends the others.
SRUN = """#!/bin/bash
echo "srun $*" >> calls.txt
while [[ $1 == --* ]]; do shift; done
for ((task = 0; task < SLURM_NTASKS; task++)); do
    SLURM_PROCID=$task SLURM_LOCALID=$task SLURM_NODEID=0 "$@" &
done
status=0
for ((task = 0; task < SLURM_NTASKS; task++)); do
    wait -n || { status=$?; kill $(jobs -p) 2> /dev/null; }
done
exit $status
"""


@pytest.mark.slow
def test_the_slurm_script_trains_in_all_tasks(distributed: Path, tmp_path: Path):
    script = ROOT / "docs/guides/slurm.sh"
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text(SRUN)
    srun.chmod(0o755)
    job = {
        "SLURM_JOB_ID": str(10_000 + os.getpid() % 40_000),
        "SLURM_JOB_NAME": "lowrank",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_NNODES": "1",
        "SLURM_CPUS_PER_TASK": "1",
        "SLURM_NODELIST": "localhost",
        "SLURM_JOB_NODELIST": "localhost",
        "PATH": f"{srun.parent}:{BIN}:{os.environ['PATH']}",
    }
    options = ["--trainer.max_steps", "1", "--trainer.limit_val_batches", "0", "--best_checkpoint.save_top_k", "0"]
    ended = subprocess.run(
        ["bash", script, distributed, *options],
        env=environment(**job),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("4 samples a step = 2 devices × 2 × 1 accumulated") == 1
    assert load(tmp_path, "run")["global_step"] == 1
    assert [path.name for path in (tmp_path / "logs/run").iterdir()] == ["version_0"]
    called = (tmp_path / "calls.txt").read_text()
    assert called.startswith("srun --kill-on-bad-exit=1 --cpus-per-task=1 lowrank fit ")
    assert "--trainer.num_nodes 1 --trainer.devices 2 --trainer.strategy ddp" in called
    # Without a recipe nothing is started.
    assert subprocess.run(["bash", script], env=environment(**job), cwd=tmp_path, capture_output=True).returncode != 0
    assert (tmp_path / "calls.txt").read_text().count("srun") == 1
