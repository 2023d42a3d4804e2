"""Points of quality and cost, read from the results of `compare`, `bench`, `test` and `analyze plan`."""

import csv
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, get_args

from nystra.analysis.plan import Plan
from trainers.figures.style import split_label

Cost = Literal["seconds", "macs", "bytes"]
Quality = Literal["fidelity", "lost", "error", "score"]
Kind = Literal["approximation", "plan", "exact", "fused", "explicit", "host"]

# What other names in results stand for: exact attention, by which program.
_KINDS: dict[str, Kind] = {
    "released": "exact",
    "Softmax()": "exact",
    "baseline": "host",
    "explicit softmax": "explicit",
    "softmax, explicit": "explicit",
    "fused softmax": "fused",
    "softmax, fused": "fused",
    "plan": "plan",
}
# A network without attention is no way to attend.
_PASSED_OVER = ("attention taken out",)


@dataclass(frozen=True)
class Point:
    """What one attention gives and takes.

    Attributes:
        label: of the kernel and its sizes, or of the network.
        kind: whether it is an approximation, a plan, or exact attention by which program: this package's ("exact"),
            torch's ("fused"), with its weights written ("explicit"), or the network's own code ("host").
        seconds: of one image, or one call.
        macs: multiply-adds.
        bytes: of memory.
        fidelity: PSNR in dB of the output against exact attention's; infinite for that itself.
        lost: of the first metric against exact attention, in its unit (dB of PSNR); below 0: gained.
        error: relative error of the attention's outputs.
        score: mean of the first metric.
    """

    label: str
    kind: Kind = "approximation"
    seconds: float | None = None
    macs: float | None = None
    bytes: float | None = None
    fidelity: float | None = None
    lost: float | None = None
    error: float | None = None
    score: float | None = None

    @property
    def family(self) -> str:
        """The kernel's class, or what stands before the sizes of a label."""
        return split_label(self.label)[0]

    @property
    def sizes(self) -> str:
        """The numbers of a label without their names: "16, 64, cross"."""
        return split_label(self.label)[1]


def read_points(results: Iterable[Path]) -> list[Point]:
    """Read points from files of results; what has the same label in several files is one point.

    Args:
        results: `metrics.json` of compare, test, validate or score (or its folder), JSON of bench, YAML of a plan, or
            the CSV that stands beside a figure of this kind. Of what two files tell of a label, the later one counts:
            times of a bench are put to the fidelity of a comparison so.

    Returns:
        Points in the order in which their labels come up.

    Raises:
        ValueError: if a file is none of these.
        OSError: if one cannot be read.
    """
    points: dict[str, Point] = {}
    for path in results:
        for point in _points(path):
            known = points.get(point.label)
            told = {key: value for key, value in asdict(point).items() if value is not None}
            points[point.label] = point if known is None else replace(known, **told)
    return list(points.values())


def _points(path: Path) -> list[Point]:
    file = path / "metrics.json" if path.is_dir() else path
    suffix = file.suffix.lower()
    if suffix in (".yaml", ".yml"):
        return _of_plan(Plan.load(file))
    try:
        if suffix == ".csv":
            with file.open(encoding="utf-8", newline="") as stream:
                return [_of_row(row) for row in csv.DictReader(stream)]
        content = json.loads(file.read_text(encoding="utf-8"))
        if "variants" in content:
            return _of_comparison(content)
        if "results" in content:
            return bench_points(content["results"])
        if "sets" in content:
            return [_of_evaluation(content, path)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"results ({file}) must be of lowrank compare, bench, test, analyze plan or a figure's CSV: {error!r}"
        ) from None
    raise ValueError(
        f"results ({file}) must be of lowrank compare, bench, test, analyze plan or a figure's CSV, got JSON with "
        f"{', '.join(map(str, list(content)[:5]))}"
    )


def _point(label: str, **values: float | None) -> Point:
    return Point(label, _kind(label), **values)


def _kind(label: str) -> Kind:
    # Exact attention in enlarged windows, as `compare` names it.
    return "exact" if label.startswith("window ") else _KINDS.get(label, "approximation")


def _of_comparison(content: Mapping[str, Any]) -> list[Point]:
    variants = content["variants"]
    leading = next(iter(content["protocol"]))
    before = variants["released"]["scores"][leading]
    higher = content.get("higher_is_better", {}).get(leading, True)
    points = []
    for label, values in variants.items():
        after = values["scores"][leading]
        point = _point(
            label,
            seconds=values["seconds"],
            macs=values.get("macs"),
            bytes=values.get("memory"),
            # JSON has no infinity.
            fidelity=values.get("fidelity", math.inf),
            lost=before - after if higher else after - before,
            score=after,
        )
        # A network of another library is released as its own code.
        own = label == "released" and content.get("network") is not None
        points.append(replace(point, kind="host") if own else point)
    return points


def bench_points(results: Mapping[str, Mapping[str, Any]]) -> list[Point]:
    """Points of what a verb of bench measured: its label → "seconds", "bytes", "error"."""
    points = []
    for name, values in results.items():
        # Rows of whole networks tell their precision; float32 goes without saying, as in comparisons.
        label = name.removesuffix(", forward").removesuffix(", float32")
        if label in _PASSED_OVER or "seconds" not in values:
            continue
        exact = _kind(label) not in ("approximation", "plan")
        points.append(
            _point(
                label,
                seconds=values["seconds"],
                bytes=values.get("bytes"),
                error=values.get("error"),
                fidelity=math.inf if exact else None,
                lost=0.0 if exact else None,
            )
        )
    return points


def _of_plan(plan: Plan) -> list[Point]:
    exact = {"fidelity": math.inf, "lost": 0.0}
    points = [
        _point("plan", seconds=plan.seconds, fidelity=plan.fidelity_db if plan.checked_db is None else plan.checked_db),
        _point("Softmax()", seconds=plan.exact_seconds, **exact),
    ]
    if plan.fused_seconds is not None:
        points.append(_point("fused softmax", seconds=plan.fused_seconds, **exact))
    if plan.host_seconds is not None:
        points.append(_point("baseline", seconds=plan.host_seconds, **exact))
    return points


def _of_evaluation(content: Mapping[str, Any], path: Path) -> Point:
    leading = next(iter(content["metrics"]))
    rows = [row for values in content["sets"].values() for row in values["per_image"].values()]
    return _point(path.name if path.is_dir() else path.parent.name, score=fmean(float(row[leading]) for row in rows))


def _of_row(row: Mapping[str, str]) -> Point:
    numbers = {field.name for field in fields(Point)} - {"label", "kind"}
    values = {name: float(row[name]) for name in numbers if row.get(name)}
    kind = row.get("kind") or _kind(row["label"])
    if kind not in get_args(Kind):
        raise ValueError(f"kind ({kind}) must be one of {', '.join(get_args(Kind))}")
    return Point(row["label"], kind, **values)  # type: ignore[arg-type]  # one of them, as was just checked
