"""Places and streams that a command is started with: gone, closed or full; and the signal that ends it."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trainers.cli import function_verb
from trainers.commands.restore import clips, images
from trainers.commands.restore.shares import Tally

LOWRANK = [sys.executable, "-m", "trainers"]
# Relative places would be looked for in a working directory that is gone.
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}


def lowrank_in_a_shell(command: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `lowrank`, as "$@", by a line of the shell."""
    return subprocess.run(
        ["sh", "-c", command, "sh", *LOWRANK, *words],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_a_full_disk_under_what_is_printed_is_one_message(tmp_path):
    ended = lowrank_in_a_shell('"$@" > /dev/full', tmp_path, "--help")
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: files must be usable, got: No space left on device")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_fault(tmp_path, closed):
    ended = lowrank_in_a_shell(f'"$@" {closed}', tmp_path, "--help")
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_working_directory_that_is_gone_is_named(tmp_path):
    (tmp_path / "gone").mkdir()
    ended = lowrank_in_a_shell('rmdir "$PWD"; "$@"', tmp_path / "gone", "--help")
    assert ended.returncode == 2
    assert ended.stderr == "error: working directory must exist, got one that was removed: change to another\n"


def test_sigterm_ends_a_command_as_ctrl_c_does(lowrank, monkeypatch, capsys):
    cleared = []

    def call(*_: Any) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            cleared.append(True)

    monkeypatch.setattr(function_verb, "call_function", call)
    # As in a process of its own: Lightning may have left a handler in this one.
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        assert lowrank("info") == 143
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)
    assert cleared
    assert capsys.readouterr().err == "SIGTERM: ended\n"


def test_names_that_act_on_a_terminal_are_written_out_in_tables(capsys):
    source, target = Path("\x1b[31mred\n.png"), Path("out/\udcff\u202e.png")
    clips._print_table({source: target}, {}, [source], {})
    printed = "".join(capsys.readouterr().out.split())
    images._tell([images._row(source, "failed")], [], Tally(failed=1), total=1)
    of_images = "".join(capsys.readouterr().out.split())
    assert "\x1b" not in printed + of_images
    assert "\\x1b[31mred\\n.png" in printed
    assert "\\x1b[31mred\\n.png" in of_images
    assert "\\u202e.png" in printed
