"""Scores of an evaluation: collected per image, gathered over processes, printed as a table, kept as metrics.json."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from datamodules.files.atomic import atomic_file
from trainers.errors import printable
from trainers.evaluation.provenance import PARTIAL, jsonable, provenance, share


@dataclass(frozen=True)
class ImageScore:
    """The scores of one restored image.

    Attributes:
        data_set: name of the data set.
        image: name of the image, unique within the set.
        values: metric → value, of a clip the mean over its scored frames.
        frames: metric → values of a clip's scored frames, in their order; empty for an image.
    """

    data_set: str
    image: str
    values: dict[str, float]
    frames: Mapping[str, Sequence[float]] = field(default_factory=dict)


def gather(scores: list[ImageScore]) -> list[ImageScore]:
    """Collect the scores of all processes, on all of them, in the order of sets and images.

    A distributed sampler repeats images until every process has equally many; each counts once.

    Args:
        scores: this process's own.

    Returns:
        Everybody's, without repetitions.
    """
    parts = [scores]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        parts = [[] for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather_object(parts, scores)
    sets = dict.fromkeys(score.data_set for part in parts for score in part)
    unique = {(score.data_set, score.image): score for part in parts for score in part}
    order = {name: index for index, name in enumerate(sets)}
    return sorted(unique.values(), key=lambda score: (order[score.data_set], score.image))


@dataclass(frozen=True)
class Evaluation:
    """The scores of all images, with their protocols and the images that whole sets have.

    Attributes:
        scores: of every image, as `gather` returns them.
        protocols: metric → what exactly it measures.
        expected: data set → number of images that the whole set has.
        higher_is_better: metric → whether larger values are better; of metrics that are not named it is unknown.
    """

    scores: Sequence[ImageScore]
    protocols: Mapping[str, str]
    expected: Mapping[str, int]
    higher_is_better: Mapping[str, bool] = field(default_factory=dict)

    def means(self) -> dict[str, dict[str, float]]:
        """Data set → metric → mean over its images."""
        sets: dict[str, list[ImageScore]] = {}
        for score in self.scores:
            sets.setdefault(score.data_set, []).append(score)
        return {
            name: {metric: fmean(score.values[metric] for score in members) for metric in self.protocols}
            for name, members in sets.items()
        }

    @property
    def of_clips(self) -> bool:
        """Whether clips were measured, and not images."""
        return any(score.frames for score in self.scores)

    def average(self) -> dict[str, float]:
        """Metric → mean of the sets' means, as the papers average over benchmarks of different sizes."""
        means = self.means().values()
        return {metric: fmean(mean[metric] for mean in means) for metric in self.protocols}

    def counts(self) -> dict[str, int]:
        """Data set → number of images measured."""
        names = [score.data_set for score in self.scores]
        return {name: names.count(name) for name in dict.fromkeys(names)}

    @property
    def absent(self) -> list[str]:
        """Data sets of which no image was measured."""
        counts = self.counts()
        return [name for name in self.expected if name not in counts]

    @property
    def partial(self) -> bool:
        """Whether a set, or images of one, were left out."""
        counts = self.counts()
        return any(counts.get(name, 0) < number for name, number in self.expected.items())

    def table(self) -> Table:
        """A row per data set, one for their average, a column per metric; a caption marks partial results."""
        table = Table()
        table.add_column("data set")
        table.add_column("clips" if self.of_clips else "images", justify="right")
        for metric in self.protocols:
            # A name cut short would lose the difference between two protocols.
            table.add_column(metric, justify="right", overflow="fold")
        counts, means = self.counts(), self.means()
        for name, mean in means.items():
            table.add_row(printable(name), share(counts[name], self.expected.get(name, 0)), *map(_shown, mean.values()))
        for name in self.absent:
            table.add_row(printable(name), f"0 of {self.expected[name]}", *[""] * len(self.protocols))
        if len(means) > 1:
            table.add_section()
            label = f"mean of {len(means)} of {len(self.expected)} sets" if self.absent else "mean of sets"
            number = share(len(self.scores), sum(self.expected.values()))
            table.add_row(label, number, *map(_shown, self.average().values()))
        if self.partial:
            table.caption = PARTIAL
        return table

    def report(
        self,
        folder: Path,
        *,
        data: str | None,
        weights: str | Path | None,
        seed: int | None,
        settings: Mapping[str, Any] | None = None,
    ) -> Path:
        """Print the table and write `metrics.json`.

        Args:
            folder: log folder; made if it is missing.
            data: what the data sets came from (the data module's class); None: loaders without one.
            weights: file, name or address that the weights came from; None: they were initialised at random.
            seed: of the run; None: none was set.
            settings: what else the scores depend on, such as tiles.

        Returns:
            The file that was written.

        Raises:
            OSError: if the file cannot be written; a former one survives.
        """
        counts, means = self.counts(), self.means()
        results: dict[str, Any] = {
            "data": data,
            "metrics": dict(self.protocols),
            "higher_is_better": dict(self.higher_is_better),
            "average": jsonable(self.average()),
            "partial": self.partial,
            "images": len(self.scores),
            "images_expected": max(len(self.scores), sum(self.expected.values())),
            "sets_absent": {name: self.expected[name] for name in self.absent},
            "sets": {
                name: {
                    "images": counts[name],
                    "images_expected": self.expected.get(name, counts[name]),
                    "mean": jsonable(mean),
                    "per_image": {
                        score.image: jsonable(score.values) for score in self.scores if score.data_set == name
                    },
                    **({"per_frame": _per_frame(self.scores, name)} if self.of_clips else {}),
                }
                for name, mean in means.items()
            },
            **(settings or {}),
            **provenance(weights, seed),
        }
        path = folder / "metrics.json"
        with atomic_file(path) as file:
            file.write(json.dumps(results, indent=1).encode())
        # Names of files and data sets may hold square brackets, which are no markup.
        console = Console(markup=False, emoji=False)
        console.print(self.table())
        for metric, protocol in self.protocols.items():
            console.print(f"{metric}: {protocol}", soft_wrap=True, highlight=False)
        console.print(
            f"every {'clip' if self.of_clips else 'image'}'s values: {printable(str(path))}",
            soft_wrap=True,
            highlight=False,
        )
        return path


def _per_frame(scores: Sequence[ImageScore], data_set: str) -> dict[str, dict[str, list[Any]]]:
    """Clip → metric → values of its scored frames."""
    return {
        score.image: {
            metric: [jsonable({metric: value})[metric] for value in values] for metric, values in score.frames.items()
        }
        for score in scores
        if score.data_set == data_set
    }


def _shown(value: float) -> str:
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.4f}"
