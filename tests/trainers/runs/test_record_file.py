"""Records of runs that are broken or hostile: listed as such, and no hindrance to the others."""

import json
import os
from pathlib import Path

import pytest

from trainers.cli.main import main
from trainers.errors import printable
from trainers.runs.listing import find_runs
from trainers.runs.run import Run, read_run, utc_now

SOUND = {
    "state": "finished",
    "host": "here",
    "process": 1,
    "process_start": None,
    "job": None,
    "started": utc_now(),
    "updated": utc_now(),
    **dict.fromkeys(("step", "epoch"), 0),
    **dict.fromkeys(
        ("max_steps", "max_epochs", "monitor", "best", "best_checkpoint", "last_checkpoint", "last_step"), None
    ),
    **dict.fromkeys(("resumed_from", "error", "configuration"), None),
}


def write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(text)
    return folder


BROKEN = {
    **{
        f"{name} {other!r:.10}": json.dumps({**SOUND, name: other}) for name in SOUND for other in ({"a": 1}, [1], True)
    },
    "process": json.dumps({**SOUND, "process": "x"}),
    "state": json.dumps({**SOUND, "state": "asleep"}),
    "started": json.dumps({**SOUND, "started": "yesterday"}),
    "no zone": json.dumps({**SOUND, "updated": "2026-01-01T00:00:00"}),
    "deep": "[" * 100_000,
    "deep configuration": json.dumps(SOUND)[:-5] + '{"a":' * 500 + "1" + "}" * 500 + "}",
    "list": "[]",
    "null": "null",
    "empty": "",
    "half": json.dumps(SOUND)[:50],
}
del BROKEN["configuration {'a': 1}"]


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_broken_record_is_listed_as_such_beside_sound_ones(tmp_path, text):
    write(tmp_path / "version_0", json.dumps(SOUND))
    broken = write(tmp_path / "version_1", text)
    assert read_run(broken) is None
    listed = {each.folder.name: each.outcome for each in find_runs([tmp_path])}
    assert listed == {"version_0": "finished", "version_1": "record cannot be read"}


@pytest.mark.parametrize("process", [0, -1, 2**62])
def test_numbers_that_no_process_has_are_of_dead_ones(tmp_path, process):
    host = os.uname().nodename
    folder = write(tmp_path, json.dumps({**SOUND, "state": "running", "host": host, "process": process}))
    run = read_run(folder)
    assert isinstance(run, Run)
    assert run.state == "killed"


def test_escapes_of_terminals_are_written_out(tmp_path, capsys):
    hostile = "\x1b]0;owned\x07\x1b[2J\u202e"
    configuration = {"model": {hostile: hostile}}
    text = json.dumps({**SOUND, "state": "failed", "error": hostile, "configuration": configuration})
    write(tmp_path / "version_0", text)
    write(tmp_path / "version_1", json.dumps(SOUND))
    assert main(["runs", str(tmp_path)]) == 0
    assert main(["runs", str(tmp_path), "--json"]) == 0
    assert main(["runs", str(tmp_path / f"nowhere{hostile}")]) == 2
    captured = capsys.readouterr()
    assert not {"\x1b", "\x07", "\u202e"} & set(captured.out + captured.err)
    assert printable("\x1b[2J") in captured.out


def test_runs_are_listed_without_a_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "logs/my run [x]/version_0", json.dumps({**SOUND, "state": "interrupted"}))
    (tmp_path / "logs/my run [x]/version_0/checkpoints").mkdir()
    (tmp_path / "logs/my run [x]/version_0/checkpoints/last.ckpt").touch()
    assert main(["runs"]) == 0
    shown = capsys.readouterr().out
    assert "--ckpt_path 'logs/my run [x]/version_0/checkpoints/last.ckpt'" in shown


@pytest.mark.skipif(os.name != "posix", reason="pipes and devices are made as POSIX has them")
@pytest.mark.parametrize("kind", ["pipe", "dangling", "loop", "device", "folder"])
def test_a_record_that_is_no_file_is_passed_over(tmp_path, kind):
    record = tmp_path / "run.json"
    if kind == "pipe":
        os.mkfifo(record)
    elif kind == "folder":
        record.mkdir()
    else:
        record.symlink_to({"dangling": "nowhere", "loop": "run.json", "device": "/dev/zero"}[kind])
    (tmp_path / "config.yaml").touch()
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/last.ckpt").touch()
    (listed,) = find_runs([tmp_path])
    assert listed.run is None
