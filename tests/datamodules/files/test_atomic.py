"""Files are complete or absent."""

from pathlib import Path

import pytest

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
