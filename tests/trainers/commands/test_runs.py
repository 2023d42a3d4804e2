"""What runs record of themselves, how they are listed, and that another configuration is not resumed by mistake."""

import itertools
import json
import os
import socket
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.loggers import CSVLogger

from trainers.commands.runs import run_runs
from trainers.runs.configuration import decisive, differences
from trainers.runs.listing import find_runs
from trainers.runs.record import RunRecord, clear_unfinished
from trainers.runs.resumption import checkpoint_to_resume
from trainers.runs.run import RUN_FILE, Run, read_run

RUN = Run(
    state="running",
    host=socket.gethostname(),
    process=os.getpid(),
    process_start=None,
    job=None,
    started="2026-01-01T00:00:00+00:00",
    updated="2026-01-01T00:00:00+00:00",
)


def write(folder: Path, run: Run, *, checkpoint: bool = False) -> Path:
    folder.mkdir(parents=True)
    (folder / RUN_FILE).write_text(json.dumps(asdict(run)))
    if checkpoint:
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints/last.ckpt").touch()
    return folder


@pytest.fixture
def ended() -> subprocess.Popen:
    """A process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process


def test_a_run_is_listed_with_its_score_its_steps_and_its_end(lowrank, recipe, tmp_path, capsys):
    assert lowrank("fit", "--config", recipe) == 0
    assert lowrank("fit", "--config", recipe, "--model.optimizer.lr", "2e-3", "--trainer.max_steps", 2) == 0
    # A test's log folder is none of a run.
    assert lowrank("test", "--config", recipe, "--ckpt_path", "last") == 0
    capsys.readouterr()
    assert lowrank("runs", tmp_path / "logs", "--json") == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first["folder"] == str(tmp_path / "logs/run/version_0")
    assert (first["state"], second["state"]) == ("finished", "finished")
    assert first["command"] is None
    assert (first["run"]["step"], first["run"]["max_steps"]) == (4, 4)
    assert first["run"]["monitor"] == "val/psnr"
    assert first["run"]["environment"]["device"].startswith("processor")
    assert first["run"]["environment"]["torch"] == torch.__version__
    saved = torch.load(next((tmp_path / "logs/run/version_0").rglob("best-*.ckpt")), weights_only=True)
    best = next(state for name, state in saved["callbacks"].items() if name.startswith("BestCheckpoint"))
    assert first["run"]["best"] == pytest.approx(float(best["best_model_score"]))
    assert first["differences"] == {"model.optimizer.lr": 1e-3, "trainer.max_steps": 4}
    assert second["differences"] == {"model.optimizer.lr": 2e-3, "trainer.max_steps": 2}
    assert lowrank("runs", tmp_path / "logs") == 0
    table = capsys.readouterr().out
    assert "finished" in table
    assert "to go on" not in table


def test_what_a_run_failed_of_is_recorded_and_how_to_go_on(lowrank, recipe, tmp_path, capsys):
    options = ["--model.optimizer.lr", "1e30", "--last_checkpoint.every_n_train_steps", 1, "--trainer.max_steps", 50]
    assert lowrank("fit", "--config", recipe, *options) == 2
    capsys.readouterr()
    (listed,) = find_runs([tmp_path])
    assert listed.state.startswith(("failed: loss must be finite", "failed: gradient norm must be finite"))
    assert "; resumable from last.ckpt (step " in listed.state
    assert lowrank("runs", tmp_path) == 0
    assert f"  {listed.command}\n" in capsys.readouterr().out
    assert listed.command == f"lowrank fit --config {listed.folder / 'config.yaml'} --ckpt_path {listed.resumable}"


def test_errors_are_listed_as_they_are(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    write(tmp_path / "a", replace(RUN, state="failed", error="RuntimeError: [/pytorch/x.cc:553] [bold]"))
    run_runs([tmp_path])
    assert "failed: RuntimeError: [/pytorch/x.cc:553] [bold]" in capsys.readouterr().out


def test_a_run_that_is_killed_is_said_to_have_stopped_without_a_word(tmp_path, ended):
    write(tmp_path / "a", replace(RUN, process=ended.pid, last_step=120), checkpoint=True)
    write(tmp_path / "b", replace(RUN, process=ended.pid, started="2026-01-02T00:00:00+00:00"))
    killed, without = find_runs([tmp_path])
    assert killed.state == "stopped without a word; resumable from last.ckpt (step 120)"
    assert (without.state, without.command) == ("stopped without a word", None)


def start() -> int | None:
    """When this process started."""
    from trainers.runs.run import process_start

    return process_start(os.getpid())


def test_a_living_run_is_running_until_another_process_has_its_number(tmp_path):
    run = replace(RUN, process_start=start())
    (listed,) = find_runs([write(tmp_path / "a", run, checkpoint=True)])
    assert listed.state == f"running ({socket.gethostname()}, process {os.getpid()})"
    assert listed.command is None
    assert read_run(write(tmp_path / "b", replace(run, process_start=1))).state == "killed"


def test_a_run_on_another_machine_lives_as_long_as_it_gives_signs(tmp_path):
    from trainers.runs.run import utc_now

    assert read_run(write(tmp_path / "a", replace(RUN, host="elsewhere"))).state == "killed"
    assert read_run(write(tmp_path / "b", replace(RUN, host="elsewhere", updated=utc_now()))).state == "running"


@pytest.mark.parametrize("moved", [False, True])
def test_a_run_that_another_goes_on_from_points_to_it(tmp_path, moved):
    first = write(tmp_path / "run/version_0", replace(RUN, state="interrupted"), checkpoint=True)
    following = replace(
        RUN,
        state="finished",
        started="2026-01-02T00:00:00+00:00",
        resumed_from=str(first / "checkpoints/last.ckpt"),
    )
    write(tmp_path / "run/version_1", following)
    if moved:
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "run").rename(tmp_path / "elsewhere/run")
    before, after = find_runs([tmp_path])
    assert (before.state, before.command) == ("interrupted; continued in version_1", None)
    assert after.state == "finished"


@pytest.mark.parametrize("state", ["failed", "running"])
def test_a_run_that_ended_before_its_first_checkpoint_takes_nobody_s_place(tmp_path, state):
    first = write(tmp_path / "run/version_0", replace(RUN, state="interrupted"), checkpoint=True)
    following = replace(RUN, state=state, resumed_from=str(first / "checkpoints/last.ckpt"))
    write(tmp_path / "run/version_1", replace(following, started="2026-01-02T00:00:00+00:00", process_start=start()))
    before, _ = find_runs([tmp_path])
    assert (before.command is None) == (state == "running")
    # It has been gone on from by others.
    last = tmp_path / "run/version_1/checkpoints/last.ckpt"
    following = replace(following, state="finished", started="2026-01-03T00:00:00+00:00", resumed_from=str(last))
    write(tmp_path / "run/version_2", following)
    assert find_runs([tmp_path])[0].continued_in == tmp_path / "run/version_1"


def test_a_checkpoint_may_lie_close_to_the_root(tmp_path):
    following = replace(RUN, state="finished", resumed_from="/last.ckpt")
    write(tmp_path / "a", following)
    assert find_runs([tmp_path])[0].state == "finished"
    trainer = SimpleNamespace(ckpt_path="/last.ckpt", is_global_zero=True, logger=None, default_root_dir=tmp_path)
    RunRecord().on_train_start(trainer, None)


def test_a_run_out_of_time_finishes_its_step_and_can_go_on(lowrank, recipe, tmp_path, monkeypatch):
    # The first call comes before training, the second after half a step.
    calls = itertools.count()
    monkeypatch.setattr(Timer, "time_elapsed", lambda *_: next(calls))
    options = ["--trainer.accumulate_grad_batches", 2, "--trainer.max_time", "00:00:00:01"]
    assert lowrank("fit", "--config", recipe, *options) == 0
    (listed,) = find_runs([tmp_path / "logs"])
    assert listed.state == "stopped early; resumable from last.ckpt (step 1)"


def test_a_run_of_epochs_is_finished_after_the_last(lowrank, recipe, tmp_path):
    assert lowrank("fit", "--config", recipe, "--trainer.max_steps", -1, "--trainer.max_epochs", 2) == 0
    assert read_run(tmp_path / "logs/run/version_0").state == "finished"


def test_older_runs_without_a_record_can_be_resumed_and_broken_records_do_no_harm(tmp_path):
    for name, record in (("old", None), ("broken", "{")):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        (tmp_path / name / "checkpoints/last.ckpt").touch()
        (tmp_path / name / "config.yaml").touch()
        if record is not None:
            (tmp_path / name / RUN_FILE).write_text(record)
    states = {listed.folder.name: listed.state for listed in find_runs([tmp_path])}
    assert states == {
        "old": "keeps no record; resumable from last.ckpt",
        "broken": "record cannot be read; resumable from last.ckpt",
    }


def test_folders_without_runs_are_refused(lowrank, tmp_path, capsys):
    assert lowrank("runs", tmp_path / "nowhere") == 2
    assert "nowhere) must exist" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert lowrank("runs", tmp_path / "empty") == 2
    assert "must hold runs of `lowrank fit`, got none" in capsys.readouterr().err


def test_half_written_files_of_a_killed_run_only_are_cleared(tmp_path, ended):
    living = replace(RUN, process_start=start())
    for name, run in (("killed", replace(RUN, process=ended.pid)), ("living", living)):
        folder = write(tmp_path / name, run, checkpoint=True) / "checkpoints"
        (folder / f".last.ckpt.{run.process}.tmp").touch()
        clear_unfinished(folder)
    assert [path.parts[-3] for path in tmp_path.rglob("*.tmp")] == ["living"]
    assert len(list(tmp_path.rglob("last.ckpt"))) == 2


CONFIGURATION = {
    "seed_everything": 1,
    "trainer": {"max_steps": 10, "precision": "32", "devices": 1, "logger": {"version": 1}},
    "model": {"class_path": "trainers.RestorationTask", "init_args": {"tile": None, "net": {"dim": 8}}},
    "data": {
        "class_path": "datamodules.PairedFolderDataModule",
        "init_args": {"train_input": "a", "batch_size": 8, "num_workers": 2},
    },
}


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (("seed_everything",), 2, "seed_everything: 1 → 2"),
        (("trainer", "precision"), "bf16-mixed", "trainer.precision: 32 → bf16-mixed"),
        (("model", "init_args", "net", "dim"), 16, "model.net.dim: 8 → 16"),
        (("model", "init_args", "net", "heads"), [1, 2], "model.net.heads.0: null → 1"),
        (("data", "init_args", "batch_size"), 4, "data.batch_size: 8 → 4"),
        (("data", "class_path"), "datamodules.DemoDataModule", "data: datamodules.PairedFolderDataModule → "),
        (("ema_decay",), 0.9, "ema_decay: null → 0.9"),
        (
            ("trainer", "callbacks"),
            [{"class_path": "lightning.pytorch.callbacks.EMAWeightAveraging", "init_args": {"decay": 0.5}}],
            "trainer.callbacks.EMAWeightAveraging: null → used",
        ),
        # What the weights do not depend on.
        (("trainer", "max_steps"), 20, None),
        (("trainer", "devices"), 4, None),
        (("trainer", "logger", "version"), 2, None),
        (("trainer", "callbacks"), [{"class_path": "lightning.pytorch.callbacks.Timer"}], None),
        (("model", "init_args", "tile"), 64, None),
        (("model", "init_args", "pretrained"), "net.pth", None),
        (("data", "init_args", "train_input"), "moved/a", None),
        (("data", "init_args", "num_workers"), 0, None),
    ],
)
def test_only_what_the_weights_depend_on_counts(path, value, expected):
    changed = json.loads(json.dumps(CONFIGURATION))
    part = changed
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    found = differences(decisive(CONFIGURATION), decisive(changed))
    if expected is None:
        assert found == []
    else:
        assert found[0].startswith(expected)


def test_a_checkpoint_of_another_configuration_is_refused_with_the_difference(lowrank, recipe, tmp_path, capsys):
    assert lowrank("fit", "--config", recipe) == 0
    capsys.readouterr()
    resume = ["fit", "--config", recipe, "--ckpt_path", "last", "--trainer.max_steps", 5]
    changed = ["--model.optimizer.lr", "2e-3", "--data.augment", "false", "--data.num_workers", 1]
    assert lowrank(*resume, *changed) == 2
    message = capsys.readouterr().err
    assert "got one that differs:\n  data.augment: True → False\n  model.optimizer.lr: 0.001 → 0.002\n" in message
    assert "--run.accept_changes true" in message
    assert lowrank(*resume, *changed, "--trainer.enable_checkpointing", "false") == 2
    assert capsys.readouterr().err == message
    assert [path.name for path in (tmp_path / "logs/run").iterdir()] == ["version_0"]
    assert lowrank(*resume, *changed, "--run.accept_changes", "true") == 0
    assert read_run(tmp_path / "logs/run/version_1").step == 5


def test_auto_begins_where_there_is_nothing_to_go_on_from(lowrank, recipe, tmp_path, capsys):
    automatic = ["fit", "--config", recipe, "--ckpt_path", "auto"]
    assert lowrank(*automatic, "--trainer.max_steps", 2) == 0
    assert "resuming" not in capsys.readouterr().out
    assert lowrank(*automatic) == 0
    assert f"resuming from {tmp_path / 'logs/run/version_0/checkpoints/last.ckpt'} (step 2)" in capsys.readouterr().out
    run = read_run(tmp_path / "logs/run/version_1")
    assert (run.step, run.resumed_from) == (4, str(tmp_path / "logs/run/version_0/checkpoints/last.ckpt"))


def test_a_job_that_ended_before_its_first_checkpoint_begins_again_where_it_began(tmp_path, monkeypatch):
    trainer = SimpleNamespace(logger=CSVLogger(tmp_path, name="run"))
    before = write(tmp_path / "run/version_0", replace(RUN, state="finished", job="100"), checkpoint=True)
    newest = write(tmp_path / "run/version_1", replace(RUN, state="finished", job="101"), checkpoint=True)
    os.utime(before / "checkpoints/last.ckpt", (0, 0))
    monkeypatch.setenv("SLURM_JOB_ID", "200")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    # Nothing is known of the job yet.
    assert checkpoint_to_resume("auto", trainer) == str(newest / "checkpoints/last.ckpt")
    assert checkpoint_to_resume(None, trainer) is None
    own = replace(RUN, state="failed", job="200", resumed_from=str(before / "checkpoints/last.ckpt"))
    write(tmp_path / "run/version_2", own)
    assert checkpoint_to_resume("auto", trainer) == checkpoint_to_resume("last", trainer) == own.resumed_from
    write(tmp_path / "run/version_3", own, checkpoint=True)
    assert checkpoint_to_resume("auto", trainer) == str(tmp_path / "run/version_3/checkpoints/last.ckpt")


def configured(lr: float, dim: int) -> dict:
    return {"model": {"init_args": {"optimizer": {"init_args": {"lr": lr}}, "net": {"init_args": {"dim": dim}}}}}


def test_runs_below_logs_are_listed_without_a_folder_s_name(lowrank, capsys):
    write(Path("logs/a"), replace(RUN, state="finished"))
    assert lowrank("runs") == 0
    assert capsys.readouterr().out.startswith("runs in logs, the oldest first:")


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_list_breaks_no_name_and_shows_options_where_they_differ(tmp_path, capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    folders = ["restormer_of_a_long_name/version_0", "restormer_of_a_long_name/version_1", "other/version_0"]
    for day, (folder, lr, dim) in enumerate(zip(folders, [1e-3, 2e-3, 1e-3], [8, 8, 16], strict=True), 1):
        started = f"2026-01-0{day}T12:00:00+00:00"
        finished = replace(RUN, state="finished", started=started, step=60, max_steps=60, monitor="val/psnr", best=24.3)
        write(tmp_path / folder, replace(finished, configuration=configured(lr, dim)))
    run_runs([tmp_path])
    lines = capsys.readouterr().out.splitlines()
    starts = [next(index for index, line in enumerate(lines) if line.startswith(folder)) for folder in folders]
    for start in starts:
        row = " ".join(lines[start : start + 2])
        assert "finished  60 of 60  val/psnr 24.3  2026-01-0" in row
    options = ["net.dim 8, optimizer.lr 0.001", "optimizer.lr 0.002", "net.dim 16"]
    assert [line.strip() for line in lines if line.startswith("    ") and "." in line and "of" not in line] == options
    if width == 80:
        # The folder in the heading is the caller's.
        assert max(map(len, lines[1:])) <= 80


def test_a_run_with_many_options_of_its_own_shows_the_first_eight(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    write(tmp_path / "a", replace(RUN, state="finished", configuration={f"option{index}": 0 for index in range(10)}))
    write(tmp_path / "b", replace(RUN, state="finished", configuration={f"option{index}": 1 for index in range(10)}))
    run_runs([tmp_path])
    assert capsys.readouterr().out.count("option7 0, and 2 more (--json)") == 1
