"""The page of several runs, or of results without a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainers.commands.report.configuration import options_of_runs
from trainers.commands.report.curves import MOST_RUNS, curves_of_runs
from trainers.commands.report.pictures import logged_scenes, merged_scenes, pictures_of_results, restored_scenes
from trainers.commands.report.quality import quality_charts
from trainers.commands.report.results import Result, compare_evaluations
from trainers.commands.report.run import (
    began,
    commands,
    draws_triplets,
    environment,
    environment_of_results,
    steps,
    summary,
)
from trainers.commands.report.sources import Sources
from trainers.monitoring.logged import Logged, read_logged
from trainers.reports.page.content import Block, Commands, Folded, Notice, Section, Table, Viewer
from trainers.reports.tables import Column
from trainers.runs.listing import Listed

_MOST_DETAILS = 40
"""Runs whose details are on the page; a page of many hundred would be read by nobody."""


def sections_of_all(sources: Sources, results: Sequence[Result], *, linked: bool) -> list[Section]:
    """The parts of the page: runs, curves, results, pictures, and each run's options, machine and commands.

    Args:
        sources: the runs, and what may be read.
        results: of all files.
        linked: whether a run's name leads to its own page.
    """
    runs = {sources.name(run.folder): run for run in sources.runs}
    logged = {name: read_logged(run.folder, sources.holds) for name, run in list(runs.items())[-MOST_RUNS:]}
    evaluations = [result for result in results if result.evaluation]
    tables: list[Block] = compare_evaluations(evaluations) if len(evaluations) > 1 else []
    tables += [block for result in results if len(evaluations) == 1 or not result.evaluation for block in result.blocks]
    notice = [] if sources.complete else [Notice("There are too many files; not all folders were looked into.")]
    parts: dict[str, list[Block]] = {
        "Runs": [*notice, _runs_table(runs, linked), *options_of_runs(runs)] if runs else [*notice],
        "Curves": curves_of_runs(logged),
        "Results": tables,
        "Quality and cost": quality_charts(results),
        "Pictures": _pictures(runs, logged, results, sources),
        "Each run": [
            Folded(f"{name}: {run.outcome}", [*summary(run), *environment(run, []), Commands(commands(run))])
            for name, run in list(runs.items())[-_MOST_DETAILS:]
        ],
        "Environment of the results": list(environment_of_results(results)),
    }
    return [Section(title, blocks) for title, blocks in parts.items() if blocks]


def _runs_table(runs: Mapping[str, Listed], linked: bool) -> Table:
    columns = [
        Column("run", "name"),
        Column("state", "state"),
        Column("steps", "steps", ".0f"),
        Column("of", "of"),
        Column("best", "best", ".4g"),
        Column("score", "monitor"),
        Column("began", "began"),
    ]
    rows = []
    for number, (name, listed) in enumerate(runs.items()):
        row: dict[str, Any] = {
            "name": name,
            "address": f"/run/{number}",
            "state": listed.outcome,
            "began": began(listed.run),
        }
        if listed.run is not None:
            _, of = steps(listed.run)
            row |= {"steps": listed.run.step, "of": of.removeprefix("of "), "best": listed.run.best}
            row |= {"monitor": listed.run.monitor if listed.run.best is not None else None}
        rows.append(row)
    return Table("Runs, the oldest first", columns, rows, links={"name": "address"} if linked else {})


def _pictures(
    runs: Mapping[str, Listed], logged: Mapping[str, Logged], results: Sequence[Result], sources: Sources
) -> list[Block]:
    scenes = {name: logged_scenes(each, triplets=draws_triplets(runs[name])) for name, each in logged.items()}
    folders = {name: run.folder for name, run in runs.items()}
    # Evaluations have log folders of their own, and so have predictions.
    folders |= {sources.name(result.file.parent): result.file.parent for result in results if result.evaluation}
    found = {
        "Validation, the last picture of each run": merged_scenes(scenes),
        "Restored images": restored_scenes(folders, sources.holds),
    }
    return [*pictures_of_results(results, sources), *(Viewer(title, each) for title, each in found.items() if each)]


def title_of(paths: Sequence[Path]) -> str:
    """What a page is named after."""
    return ", ".join(path.resolve().name for path in paths)
