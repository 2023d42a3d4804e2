"""Results as tables and charts: evaluations, comparisons of kernels, benchmarks and plans, by the content of files."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainers.evaluation.differences import read_evaluation
from trainers.evaluation.provenance import PARTIAL, share
from trainers.reports.page.content import Block, Folded, Notice, Table
from trainers.reports.tables import LABEL, Column
from trainers.runs.record_file import read_object

MOST_ROWS = 600
"""Rows of a table of images; more are no longer looked at one by one."""
_UNITS: dict[str, tuple[str, str, float]] = {
    "seconds": ("seconds", ".4g", 1.0),
    "bytes": ("memory MiB", ".0f", 2**-20),
    "memory": ("memory MiB", ".0f", 2**-20),
    "macs": ("multiply-adds G", ".2f", 1e-9),
    "parameters": ("parameters M", ".2f", 1e-6),
    "image": ("s/image", ".4f", 1.0),
    "step": ("s/step", ".4f", 1.0),
}
"""Key of a measured number → heading, format, factor."""


@dataclass(frozen=True)
class Result:
    """A file of results as it is shown.

    Attributes:
        name: of the file, short.
        file: the file.
        blocks: tables.
        content: what the file holds.
        evaluation: whether it is of the images of test sets, which several files can share.
        pictures: image → what is shown of it → file, in the folder of the results.
    """

    name: str
    file: Path
    blocks: Sequence[Block]
    content: Mapping[str, Any]
    evaluation: bool = False
    pictures: Mapping[str, Mapping[str, Path]] = field(default_factory=dict)


def read_result(file: Path, name: str) -> Result | None:
    """Read a file of results.

    Args:
        file: JSON or YAML, of whomever.
        name: of it in the report.

    Returns:
        Its tables; None if it holds no results. Of damaged results there is a notice in their place.
    """
    if file.suffix.lower() != ".json":
        return _read_plan(file, name)
    try:
        content = read_object(file)
    except (OSError, ValueError) as error:
        notice = Notice(f"{name} cannot be read: {error}")
        return Result(name, file, [notice], {}) if file.name == "metrics.json" else None
    kinds: dict[str, Callable[[Path, str, Mapping[str, Any]], Result]] = {
        "sets": _evaluation,
        "variants": _comparison,
        "results": _measurement,
    }
    for key, make in kinds.items():
        if isinstance(content.get(key), Mapping):
            try:
                return make(file, name, content)
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
                return Result(name, file, [Notice(f"{name} is damaged: {error!r}")], content)
    return None


def compare_evaluations(results: Sequence[Result]) -> list[Block]:
    """Tables of several evaluations: a row for each and its data sets, and every image's value by each of them.

    Args:
        results: evaluations.
    """
    metrics = list(dict.fromkeys(metric for result in results for metric in result.content["metrics"]))
    columns = [Column("evaluation", "name"), Column("data set", "set"), Column("images", "images")]
    columns += [Column(metric, f"metric {metric}", ".4f") for metric in metrics]
    rows = [{"name": result.name, **row} for result in results for row in _set_rows(result.content)]
    notes = list(dict.fromkeys(note for result in results for note in _protocols(result.content["metrics"])))
    warning = PARTIAL if any(result.content.get("partial") for result in results) else ""
    blocks: list[Block] = [Table("Evaluations", columns, rows, notes, warning)]
    leading = metrics[0]
    images: dict[tuple[str, str], dict[str, Any]] = {}
    for index, result in enumerate(results):
        if leading in result.content["metrics"]:
            for set_name, values in result.content["sets"].items():
                for image, row in values["per_image"].items():
                    entry = images.setdefault((set_name, image), {"set": set_name, "image": image})
                    entry[f"result {index}"] = float(row[leading])
    columns = [Column("image", "image"), Column("data set", "set")]
    columns += [Column(result.name, f"result {index}", ".4f") for index, result in enumerate(results)]
    blocks.append(
        Folded(f"{leading} of every image", [_bounded(f"{leading} of every image", columns, list(images.values()))])
    )
    return blocks


def _evaluation(file: Path, name: str, content: Mapping[str, Any]) -> Result:
    content = {**content, **read_evaluation(file)}
    metrics = content["metrics"]
    columns = [Column("data set", "set"), Column("images", "images")]
    columns += [Column(metric, f"metric {metric}", ".4f") for metric in metrics]
    warning = PARTIAL if content.get("partial") else ""
    blocks: list[Block] = [Table(name, columns, list(_set_rows(content)), _protocols(metrics), warning)]
    images = [
        {"set": set_name, "image": image, **{f"metric {metric}": float(row[metric]) for metric in metrics}}
        for set_name, values in content["sets"].items()
        for image, row in values["per_image"].items()
    ]
    columns = [Column("image", "image"), columns[0], *columns[2:]]
    blocks.append(Folded(f"All {len(images)} images of {name}", [_bounded("Every image", columns, images)]))
    return Result(name, file, blocks, content, evaluation=True)


def _set_rows(content: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for set_name, values in content["sets"].items():
        count, whole = int(values["images"]), int(values.get("images_expected", 0))
        means = {f"metric {metric}": float(value) for metric, value in values["mean"].items()}
        yield {"set": set_name, "images": share(count, whole), **means}


def _comparison(file: Path, name: str, content: Mapping[str, Any]) -> Result:
    variants, protocol = content["variants"], content["protocol"]
    columns = [Column("variant", LABEL), *(Column(metric, f"metric {metric}", ".4f") for metric in protocol)]
    keys = {
        "flicker": ("flicker", ".3f", 1.0),
        "worst_drop": ("worst drop", ".3f", 1.0),
        "fidelity": ("fidelity dB", ".2f", 1.0),
        "worst_fidelity": ("worst fidelity dB", ".2f", 1.0),
        "seconds": ("s/image", ".4f", 1.0),
        "memory": _UNITS["memory"],
        "macs": _UNITS["macs"],
    }
    rows = [
        {
            LABEL: label,
            **{f"metric {metric}": float(values["scores"][metric]) for metric in protocol},
            **{key: float(values[key]) for key in keys if values.get(key) is not None},
        }
        for label, values in variants.items()
    ]
    columns += [Column(text, key, form, factor) for key, (text, form, factor) in keys.items() if _in_any(key, rows)]
    notes = [
        *_protocols(protocol),
        "worst drop: largest loss of the first metric on one image; fidelity: RGB PSNR to the released model's output",
    ]
    warning = PARTIAL if content.get("partial") else ""
    title = f"{name}: {_count(content.get('images'))} of {content.get('data', 'unknown data')}"
    blocks: list[Block] = [Table(title, columns, rows, notes, warning)]
    images = [str(image) for image in content.get("images", [])]
    leading = next(iter(protocol))
    per_image = {label: values.get("per_image", {}).get(leading, []) for label, values in variants.items()}
    if len(images) > 1 and all(len(values) == len(images) for values in per_image.values()):
        columns = [
            Column("image", "image"),
            *(Column(label, f"variant {index}", ".4f") for index, label in enumerate(variants)),
        ]
        rows = [
            {"image": image, **{f"variant {at}": float(values[index]) for at, values in enumerate(per_image.values())}}
            for index, image in enumerate(images)
        ]
        blocks.append(Folded(f"{leading} of every image", [_bounded(f"{leading} of every image", columns, rows)]))
    return Result(name, file, blocks, content, pictures=_pictures(file.parent, content.get("pictures")))


def _measurement(file: Path, name: str, content: Mapping[str, Any]) -> Result:
    results = content["results"]
    rows = [
        {
            LABEL: label,
            **{key: float(value) for key, value in values.items() if _is_number(value)},
            **{key: value for key, value in values.items() if isinstance(value, str)},
        }
        for label, values in results.items()
        if isinstance(values, Mapping)
    ]
    if not rows:
        raise ValueError("its results must be names with numbers")
    keys = list(dict.fromkeys(key for row in rows for key in row if key != LABEL))
    columns = [Column("", LABEL)]
    for key in keys:
        heading, form, factor = _UNITS.get(key, (key, ".4g", 1.0))
        texts = any(isinstance(row.get(key), str) for row in rows)
        columns.append(Column(key, key) if texts else Column(heading, key, form, factor))
    return Result(name, file, [Table(name, columns, rows, list(_settings(content)))], content)


def _read_plan(file: Path, name: str) -> Result | None:
    # Plans are of nystra, which a report of training alone need not import.
    from nystra.analysis.plan import Plan

    try:
        plan = Plan.load(file)
    except (OSError, ValueError):
        # Some other YAML.
        return None
    rows = [
        {
            "site": site,
            "kernel": str(choice.kernel),
            "seconds": 1e3 * choice.seconds,
            "exact": 1e3 * choice.exact_seconds,
            "error": choice.error,
        }
        for site, choice in plan.choices.items()
    ]
    columns = (
        Column("attention", "site"),
        Column("kernel", "kernel"),
        Column("ms", "seconds", ".3f"),
        Column("exact ms", "exact", ".3f"),
        Column("relative error", "error", ".3g"),
    )
    notes = [
        f"the whole network: {plan.seconds:.4g} s an image, exact {plan.exact_seconds:.4g} s; fidelity "
        f"{plan.fidelity_db:.1f} dB on the sample; {plan.precision}"
    ]
    return Result(name, file, [Table(f"{name}: a kernel for every attention", columns, rows, notes)], {})


def _pictures(folder: Path, listed: Any) -> dict[str, dict[str, Path]]:
    """The pictures that a comparison names, all in its own folder."""
    if not isinstance(listed, Mapping):
        return {}
    found = {}
    for image, files in listed.items():
        if isinstance(files, Mapping) and all(isinstance(file, str) for file in files.values()):
            found[str(image)] = {str(label): folder / file for label, file in files.items()}
    return found


def _bounded(title: str, columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> Table:
    """A table of images; of very many the lowest and the highest in the first number are kept."""
    if len(rows) <= MOST_ROWS:
        return Table(title, columns, rows)
    key = next(column.key for column in columns if column.form)
    ordered = sorted(rows, key=lambda row: row.get(key, math.nan))
    half = MOST_ROWS // 2
    note = f"The {half} lowest and the {half} highest of {len(rows)}; the file holds all."
    return Table(title, columns, [*ordered[:half], *ordered[-half:]], [note])


def _protocols(metrics: Mapping[str, str]) -> list[str]:
    return [f"{metric}: {protocol}" for metric, protocol in metrics.items()]


def _settings(content: Mapping[str, Any]) -> Iterator[str]:
    if isinstance(content.get("protocol"), Mapping):
        yield from _protocols(content["protocol"])
    plain = {key: value for key, value in content.items() if isinstance(value, str | int | float) and key != "results"}
    if plain:
        yield ", ".join(f"{key}: {value}" for key, value in plain.items())


def _count(images: Any) -> str:
    count = len(images) if isinstance(images, Sequence) else 0
    return f"{count} image{'' if count == 1 else 's'}"


def _in_any(key: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    return any(key in row for row in rows)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
