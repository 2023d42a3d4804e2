"""Rows of the published tables with what is measured here: costs now, quality from evaluations that are there."""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainers.evaluation.provenance import share
from trainers.reports.tables import LABEL, NAME_COLUMN, Column
from trainers.reproduction.channel_tables import ATTENTION, PublishedRow, PublishedTable
from trainers.reproduction.files import read_results
from trainers.reproduction.jobs import METRICS, Chain, Job
from trainers.reproduction.window_tables import METHODS, ORIGINAL, PNP_NYSTRA, Benchmark, WindowTable

# What evaluations and comparisons write, and is read here.
_EVALUATED = ("average", "images", "images_expected", "partial", "metrics", "weights")
_COMPARED = ("variants", "images", "images_expected", "partial", "protocol", "weights")
COST_COLUMNS = (
    Column("paper G", "published_gmacs", ".2f"),
    Column("here G", "gmacs", ".2f"),
    Column("Δ G", "gmacs_difference", "+.2f"),
    Column("paper M", "published_parameters", ".2f"),
    Column("here M", "parameters", ".2f"),
)
QUALITY_COLUMNS = (
    Column("paper dB", "published_psnr", ".2f"),
    Column("here dB", "psnr", ".2f"),
    Column("Δ dB", "psnr_difference", "+.2f"),
    Column("images", "images"),
)
WINDOW_COLUMNS = {
    "quality": (
        NAME_COLUMN,
        Column("method", "method"),
        *QUALITY_COLUMNS[:3],
        Column("paper SSIM", "published_ssim", ".4f"),
        Column("here SSIM", "ssim", ".4f"),
        QUALITY_COLUMNS[3],
    ),
    "speed": (
        NAME_COLUMN,
        Column("original s", "original_seconds", ".3f"),
        Column("PnP-Nystra s", "seconds", ".3f"),
        Column("times as fast", "speed_up", ".2f"),
    ),
    "drop": (
        NAME_COLUMN,
        Column("kernel", "method"),
        Column("PSNR drop", "psnr_drop", ".3f"),
        Column("SSIM drop", "ssim_drop", ".4f"),
        QUALITY_COLUMNS[3],
    ),
}


def channel_columns(table: PublishedTable) -> tuple[Column, ...]:
    """Columns of a GLMHA table."""
    return (NAME_COLUMN, *(COST_COLUMNS if table.has_costs else ()), *QUALITY_COLUMNS)


def channel_chain(
    table: PublishedTable,
    row: PublishedRow,
    output: Path,
    root: str | None,
    pretrained: str | None,
    changes: Path | None,
) -> Chain:
    """Make the jobs that measure a row's quality: training, unless a checkpoint is given, and evaluation.

    Args:
        table: that the row is of.
        row: what is trained.
        output: folder for the runs of all tables: rows that are one network are trained once.
        root: folder of the data; None: not given.
        pretrained: checkpoint of the row; None: it is trained.
        changes: file of options for the training besides, such as devices; None: none.
    """
    host, runs = table.host, _runs(table, output)
    folder, place = runs / row.key, root or "DIR"
    logger = {"trainer.logger.init_args.save_dir": str(runs), "trainer.logger.init_args.name": row.key}
    version = f"evaluation_{_digest(pretrained or folder, place)}"
    evaluation = {"config": host.evaluation, "data.root": place, **host.options, **logger}
    evaluation["trainer.logger.init_args.version"] = version
    if pretrained is not None:
        jobs = [Job("test", folder / version, {**evaluation, "model.pretrained": pretrained})]
    else:
        training = {"config": host.training, ATTENTION: row.recipe, "data.root": place, **logger, "ckpt_path": "auto"}
        jobs = [
            Job("fit", folder, training, changes=changes),
            Job("test", folder / version, evaluation, weights=folder),
        ]
    return Chain(f"{runs.name}/{row.key}", tuple(jobs), () if root else ("data.root",))


def channel_rows(table: PublishedTable, output: Path, *, costs: bool = True) -> list[dict[str, Any]]:
    """Make the rows of a GLMHA table: published, counted, and measured where an evaluation is there.

    Args:
        table: the table.
        output: folder for the runs of all tables.
        costs: whether they are counted, which takes seconds.
    """
    rows = []
    for row in table.rows:
        values: dict[str, Any] = {LABEL: row.method, "key": row.key, "published_psnr": row.psnr}
        if costs and table.has_costs:
            cost = table.cost(row)
            gmacs = getattr(cost, table.host.counted) / 1e9
            values |= {
                "published_gmacs": row.gmacs,
                "gmacs": gmacs,
                "gmacs_difference": gmacs - row.gmacs,
                "published_parameters": row.parameters,
                "parameters": cost.parameters / 1e6,
            }
        found = _newest(_runs(table, output) / row.key, "evaluation_", _EVALUATED)
        if found is not None:
            metric = table.host.metric
            psnr = float(found["average"][metric])
            values |= {
                "psnr": psnr,
                "psnr_difference": psnr - row.psnr,
                "images": share(found["images"], found["images_expected"]),
                "partial": found["partial"],
                "protocol": found["metrics"][metric],
                "weights": found["weights"],
            }
        rows.append(values)
    return rows


def window_chain(benchmark: Benchmark, output: Path, root: str | None, pretrained: str | None) -> Chain:
    """Make the job that compares a released network under kernels.

    Args:
        benchmark: network, data and kernels.
        output: folder for the comparisons of all tables.
        root: folder of the data set; None: not given.
        pretrained: checkpoint of the network; None: not given.
    """
    needed = {f"data.{benchmark.key}": root, f"pretrained.{benchmark.weights}": pretrained}
    place, weights = root or "DIR", pretrained or "CKPT"
    folder = output / benchmark.key / f"comparison_{_digest(weights, place)}"
    job = Job("compare", folder, {**benchmark.arguments(weights, place), "output": str(folder)})
    return Chain(benchmark.key, (job,), tuple(option for option, value in needed.items() if value is None))


def window_rows(table: WindowTable, output: Path) -> list[dict[str, Any]]:
    """Make the rows of a table of PnP-Nystra: published, and measured where a comparison is there.

    Args:
        table: the table.
        output: folder for the comparisons of all tables.
    """
    make = {"quality": _quality_rows, "speed": _speed_rows, "drop": _drop_rows}[table.kind]
    rows: list[dict[str, Any]] = []
    for benchmark in table.benchmarks:
        rows += make(benchmark, _newest(output / benchmark.key, "comparison_", _COMPARED))
    return rows


def _quality_rows(benchmark: Benchmark, found: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    rows = []
    for method in (ORIGINAL, "Performer", "Nyströmformer", PNP_NYSTRA):
        values: dict[str, Any] = {LABEL: benchmark.title, "method": method}
        if method in benchmark.published:
            values["published_psnr"], values["published_ssim"] = benchmark.published[method]
        if found is not None and (name := _variant(benchmark, method, found)) is not None:
            psnr, ssim = list(found["variants"][name]["scores"].values())[:2]
            values |= {"psnr": psnr, "ssim": ssim, "variant": name, **_about(found)}
            if method in benchmark.published:
                values["psnr_difference"] = psnr - values["published_psnr"]
        rows.append(values)
    return rows


def _speed_rows(benchmark: Benchmark, found: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    values: dict[str, Any] = {LABEL: benchmark.title}
    if found is not None and (name := _variant(benchmark, PNP_NYSTRA, found)) is not None:
        seconds, original = (found["variants"][each]["seconds"] for each in (name, benchmark.original))
        values |= {"original_seconds": original, "seconds": seconds, "speed_up": original / seconds, **_about(found)}
    return [values]


def _drop_rows(benchmark: Benchmark, found: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    rows = []
    for kernel in benchmark.kernels:
        landmarks, iterations = kernel["init_args"]["landmarks"], kernel["init_args"]["iterations"]
        method = f"{landmarks} landmarks, {iterations} iterations"
        values: dict[str, Any] = {LABEL: benchmark.title, "method": method}
        if found is not None:
            begin = f"PublishedNystrom(landmarks={landmarks}, iterations={iterations},"
            variants = found["variants"]
            (name,) = (each for each in variants if each.startswith(begin))
            before, after = (list(variants[each]["scores"].values()) for each in (benchmark.original, name))
            values |= {"psnr_drop": before[0] - after[0], "ssim_drop": before[1] - after[1], **_about(found)}
        rows.append(values)
    return rows


def _variant(benchmark: Benchmark, method: str, found: Mapping[str, Any]) -> str | None:
    """The variant of a comparison that a method of the paper is; None if there is none."""
    if method == ORIGINAL:
        return benchmark.original
    names: Iterable[str] = found["variants"]
    return next((name for name in names if name.startswith(f"{METHODS[method]}(")), None)


def _about(found: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "images": share(len(found["images"]), found["images_expected"]),
        "partial": found["partial"],
        "protocol": "; ".join(found["protocol"].values()),
        "weights": found["weights"],
    }


def protocols(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The protocols of the measured rows, each once."""
    return list(dict.fromkeys(row["protocol"] for row in rows if "protocol" in row))


def measured(rows: Sequence[Mapping[str, Any]]) -> int:
    """How many rows have a quality, or a time, that was measured here."""
    return sum(any(not math.isnan(row.get(key, math.nan)) for key in ("psnr", "speed_up", "psnr_drop")) for row in rows)


def _runs(table: PublishedTable, output: Path) -> Path:
    return output / Path(table.host.training).stem


def _newest(folder: Path, begin: str, keys: Sequence[str]) -> dict[str, Any] | None:
    """The newest `metrics.json` in the folders of this beginning; None if there is none."""
    found = sorted(folder.glob(f"{begin}*/{METRICS}"), key=lambda path: path.stat().st_mtime)
    return read_results(found[-1], *keys) if found else None


def _digest(weights: str | Path, root: str) -> str:
    """A name for the results of these weights on these data."""
    return hashlib.sha256(f"{weights}\n{root}".encode()).hexdigest()[:8]
