"""What a report is made of: the runs and the results below some folders, and nothing outside of them."""

import functools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainers.runs.listing import Listed, find_runs
from trainers.runs.record_file import LARGEST_RECORD

RESULTS = (".json", ".yaml", ".yml")
"""Endings of files that may hold results; their content decides."""
_NO_RESULTS = ("run.json", "fine_tuning.json", "config.yaml", "hparams.yaml")
_PASSED_OVER = ("checkpoints", "images", "pictures")
_MOST_ENTRIES = 20_000


@dataclass(frozen=True)
class Sources:
    """Runs and results.

    Attributes:
        roots: files and folders that were named.
        runs: the runs below them, the oldest first.
        results: files that may hold results, sorted.
        complete: whether all folders were looked into; too many are not.
    """

    roots: tuple[Path, ...]
    runs: Sequence[Listed]
    results: Sequence[Path]
    complete: bool

    def holds(self, file: Path) -> bool:
        """Whether a path is a file that lies in what was named, also if it is a link."""
        return file.is_file() and self._within(file.resolve())

    def name(self, path: Path) -> str:
        """A short name of a file or folder: its path in what was named, or the last words of that."""
        root = self._base
        path = path.resolve()
        return str(path.relative_to(root)) if path != root and path.is_relative_to(root) else path.name

    def of_run(self, folder: Path) -> list[Path]:
        """The results in a run's own folder."""
        return [file for file in self.results if file.resolve().is_relative_to(folder.resolve())]

    def _within(self, path: Path) -> bool:
        return any(path.is_relative_to(root.resolve()) for root in self.roots)

    @functools.cached_property
    def _base(self) -> Path:
        folders = [root.resolve() if root.is_dir() else root.resolve().parent for root in self.roots]
        return Path(os.path.commonpath(folders))


def find_sources(paths: Sequence[Path]) -> Sources:
    """Find the runs and results below some folders.

    Args:
        paths: folders, which are searched with all folders below them, and single files of results.

    Raises:
        FileNotFoundError: if a path does not exist, or there is nothing to report.
    """
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(
                f"paths ({path}) must exist, got nothing there: name folders of runs, or files of results"
            )
    folders = [path for path in paths if path.is_dir()]
    entries: list[Path] = []
    complete = True
    for folder in folders:
        for entry in _walk(folder):
            if len(entries) >= _MOST_ENTRIES:
                complete = False
                break
            entries.append(entry)
    results = [path for path in paths if not path.is_dir()]
    results += [entry for entry in entries if _may_hold_results(entry)]
    empty = Sources(tuple(paths), [], [], complete)
    try:
        found = find_runs(folders) if folders else []
    except FileNotFoundError:
        found = []
    runs = [run for run in found if empty.holds(run.folder / "run.json") or empty.holds(run.folder / "config.yaml")]
    kept = [file for file in dict.fromkeys(results) if empty.holds(file)]
    if not runs and not kept:
        raise FileNotFoundError(
            f"paths ({', '.join(map(str, paths))}) must hold runs of `lowrank fit` or results (metrics.json of test, "
            "score and compare, JSON of bench, a plan), got none: name others"
        )
    return Sources(tuple(paths), runs, kept, complete)


def _may_hold_results(file: Path) -> bool:
    if file.suffix.lower() not in RESULTS or file.name in _NO_RESULTS:
        return False
    try:
        return file.stat().st_size <= LARGEST_RECORD
    except OSError:
        return False


def _walk(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _PASSED_OVER and not name.startswith("."))
        yield from (Path(place, name) for name in sorted(files))
