"""A list of jobs runs what is not done, goes on where it was, and leaves signals to its commands."""

import os
import signal
from pathlib import Path

import pytest

from trainers.errors import Stopped, explain
from trainers.reproduction import jobs
from trainers.reproduction.jobs import Job, run_jobs


class Process:
    """Stands in for the process of a command, which writes what the command would."""

    status = 0
    told: signal.Signals | None = None

    def __init__(self, words, env):
        started.append(words[3:])
        self.folder = Path(next(word for word in words if word.startswith("--output=")).removeprefix("--output="))
        self.signals = []
        processes.append(self)

    def send_signal(self, number):
        self.signals.append(number)

    def wait(self):
        if self.told is not None:
            os.kill(os.getpid(), self.told)
        if self.status == 0:
            self.folder.mkdir()
            (self.folder / "metrics.json").write_text("{}")
        return self.status


started: list[list[str]] = []
processes: list[Process] = []


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch):
    started.clear()
    processes.clear()
    monkeypatch.setattr(jobs.subprocess, "Popen", Process)


def comparison(folder: Path) -> Job:
    return Job("compare", folder, {"output": str(folder)})


@pytest.mark.parametrize(("status", "ends"), [(75, 75), (130, 130), (143, 143), (-signal.SIGTERM, 143)])
def test_an_interrupted_list_ends_alike_and_goes_on_with_what_is_left(tmp_path, monkeypatch, status, ends):
    chain = [comparison(tmp_path / name) for name in "abc"]
    run_jobs(chain[:1])
    monkeypatch.setattr(Process, "status", status)
    with pytest.raises(Stopped) as stopped:
        run_jobs(chain)
    assert stopped.value.status == ends
    monkeypatch.setattr(Process, "status", 0)
    run_jobs(chain)
    assert [words[1][-1] for words in started] == ["a", "b", "b", "c"]
    assert all(job.done for job in chain)


def test_a_command_that_fails_is_named_without_a_traceback(tmp_path, monkeypatch):
    monkeypatch.setattr(Process, "status", 2)
    with pytest.raises(ChildProcessError) as failed:
        run_jobs([comparison(tmp_path / "a")])
    message = explain(failed.value)
    assert message is not None
    assert message.startswith(f"command (lowrank compare --output={tmp_path}/a) must end with exit status 0, got 2")


@pytest.mark.parametrize(
    ("number", "forwarded"), [(signal.SIGTERM, True), (signal.SIGUSR1, True), (signal.SIGINT, False)]
)
def test_signals_are_the_commands(tmp_path, monkeypatch, number, forwarded):
    before = signal.getsignal(number)
    monkeypatch.setattr(Process, "told", number)
    run_jobs([comparison(tmp_path / "a")])
    # The terminal tells the command of Ctrl-C itself.
    assert processes[0].signals == ([number] if forwarded else [])
    assert signal.getsignal(number) == before


def test_an_evaluation_takes_the_checkpoint_of_its_training(tmp_path, monkeypatch):
    job = Job("test", tmp_path / "evaluation", {"config": "eval/gopro.yaml"}, weights=tmp_path)
    assert job.arguments[-1] == f"--model.pretrained={tmp_path}/version_0/checkpoints/last.ckpt"
    monkeypatch.setattr(jobs, "trained", lambda folder: folder / "version_3" / "checkpoints" / "last.ckpt")
    assert job.arguments[-1] == f"--model.pretrained={tmp_path}/version_3/checkpoints/last.ckpt"


def test_changes_are_read_after_the_recipe(tmp_path):
    job = Job("fit", tmp_path, {"config": "glmha/mst_cassi.yaml", "data.root": "DIR"}, changes=Path("mine.yaml"))
    assert job.arguments == ["fit", "--config=glmha/mst_cassi.yaml", "--config=mine.yaml", "--data.root=DIR"]
    assert not job.done
