"""Files are complete or absent."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from datamodules.files import atomic
from datamodules.files.atomic import atomic_file


def stop_halfway(path: Path) -> None:
    with atomic_file(path) as file:
        file.write(b"second, incompl")
        raise KeyboardInterrupt


def test_a_file_appears_complete_or_not_at_all(tmp_path: Path):
    path = tmp_path / "new" / "file"
    with atomic_file(path) as file:
        file.write(b"first")
        assert not path.exists()
    with pytest.raises(KeyboardInterrupt):
        stop_halfway(path)
    assert path.read_bytes() == b"first"
    assert list(path.parent.iterdir()) == [path]


def test_what_a_killed_process_left_is_removed_with_the_next_file(tmp_path):
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    left, kept = (
        tmp_path / f".a.png.{machine}-{number}.tmp"
        for machine, number in ((atomic._machine(), int(ended.stdout)), (atomic._machine(), os.getppid()))
    )
    elsewhere = tmp_path / f".a.png.another-machine-{int(ended.stdout)}.tmp"
    for path in (left, kept, elsewhere, tmp_path / "mine.tmp"):
        path.touch()
    with atomic_file(tmp_path / "file"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {kept.name, elsewhere.name, "mine.tmp", "file"}
