"""Files that would leave a mark if anything in them were executed."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.attack.inputs.checkpoints import write_hostile


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """A file that is there only if something was executed."""
    return tmp_path / "executed"


@pytest.fixture
def hostile(tmp_path: Path, mark: Path) -> Callable[[str], Path]:
    """Make a checkpoint of a kind that executes code in readers which let it: "zip", "pickle", "legacy", "pair"."""

    def make(kind: str) -> Path:
        path = tmp_path / "hostile.ckpt"
        write_hostile(path, mark, kind)
        return path

    return make
