"""Files that would leave a mark if anything in them were executed."""

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch


class Marking:
    """Would make a file if it were unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """A file that is there only if something was executed."""
    return tmp_path / "executed"


@pytest.fixture
def hostile(tmp_path: Path, mark: Path) -> Callable[[str], Path]:
    """Make a checkpoint of a kind that executes code in readers which let it: "zip", "pickle", "legacy", "pair"."""

    def make(kind: str) -> Path:
        path = tmp_path / "hostile.ckpt"
        content = {"state_dict": {"a": Marking(mark)}, "pytorch-lightning_version": "2.6.0"}
        if kind == "pickle":
            path.write_bytes(pickle.dumps(content))
        elif kind == "pair":
            # A pickle in the place of the bytes that torch's archives end with.
            torch.save({"a": torch.zeros(1)}, path)
            with zipfile.ZipFile(path, "a") as archive:
                archive.writestr("archive/constants.pkl", pickle.dumps(content))
        else:
            torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
        return path

    return make
