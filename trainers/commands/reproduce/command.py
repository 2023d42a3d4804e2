"""The verb `reproduce`: the papers' tables and figures, published beside measured, and the commands that measure."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table

from trainers.commands.reproduce.miniature import SETTINGS, run_ablation, run_channel_table
from trainers.errors import UsageError, nearest
from trainers.evaluation.provenance import PARTIAL
from trainers.recipes.find import find_config
from trainers.reports.profiling import check_counts
from trainers.reports.tables import results_table
from trainers.reproduction import channel_tables, window_tables
from trainers.reproduction.files import write_table
from trainers.reproduction.items import ITEMS, window_name
from trainers.reproduction.jobs import Chain, run_jobs
from trainers.reproduction.measured import (
    WINDOW_COLUMNS,
    channel_chain,
    channel_columns,
    channel_rows,
    measured,
    protocols,
    window_chain,
    window_rows,
)

SEEDS = 3
ABLATION = "pnp-table6"
CHANNEL = {f"glmha-table{number}": table for number, table in channel_tables.TABLES.items()}
WINDOW = {window_name(number): table for number, table in window_tables.TABLES.items()}
MINIATURES = (*(f"glmha-table{number}" for number in SETTINGS), ABLATION)
ROOT = "root"
"""The name in `--data.NAME` of the folder for all that have none of their own."""


def run_reproduce(
    names: Sequence[str] = (),
    *,
    data: dict[str, str] | None = None,
    pretrained: dict[str, str] | None = None,
    plan: bool = False,
    run: bool = False,
    job: int | None = None,
    changes: Path | None = None,
    scale: Literal["full", "mini"] = "full",
    seeds: int | None = None,
    steps: int | None = None,
    output: Path = Path("logs/reproduce"),
) -> None:
    """List the tables and figures of both papers, or print some of them, published beside measured.

    Costs are counted at once. Quality is that of evaluations in the output folder, and of the checkpoints that are
    given, which are evaluated. What is there already is not measured again, so a list of trainings that was interrupted
    goes on with the same command.

    Args:
        names: tables or figures, such as glmha-table7; none: all are listed, with what each needs and its state.
        data: --data.root DIR, the folder of the data set; where a table is of several, --data.NAME DIR for each.
        pretrained: --pretrained.NAME CHECKPOINT for rows or networks: a file, a name of `lowrank models`, or an
            address. The plan has the names.
        plan: print the commands that measure the quality, and what is done of them.
        run: run those commands, trainings included.
        job: number in the plan of the one row that is run, for a SLURM array; null: all rows.
        changes: recipe of options for every training besides, such as trainer.devices.
        scale: full, or mini: small networks of the demonstration in place of the papers', trained in minutes.
        seeds: trainings of each row in miniature, >= 1; null: 3.
        steps: of each training in miniature, >= 1; null: 100, for pnp-table6 200.
        output: folder for runs, and for the tables as JSON, CSV and LaTeX.

    Raises:
        ValueError: if a name is unknown, or options do not fit together.
        ChildProcessError: if a command failed.
    """
    console = Console(markup=False, emoji=False)
    _check(names, scale, {"seeds": seeds, "steps": steps}, plan, run, job)
    if not names:
        _list(console, output)
        return
    if scale == "mini":
        for name in names:
            _print_miniature(console, name, SEEDS if seeds is None else seeds, steps, output)
        return
    chains = _chains(names, data or {}, pretrained or {}, changes, output)
    if plan:
        _print_plan(console, names, chains, data or {}, pretrained or {})
        return
    run_jobs(each for chain in _chosen(chains, run, job, pretrained or {}) for each in chain.jobs)
    for name in names:
        _print(console, name, output)


def _check(
    names: Sequence[str], scale: str, of_miniatures: Mapping[str, int | None], plan: bool, run: bool, job: int | None
) -> None:
    """Refuse names that are unknown and options that do not fit together."""
    for name in names:
        if name not in ITEMS:
            raise UsageError(f"names ({name}) must be of {', '.join(ITEMS)}{nearest(name, list(ITEMS))}")
        if scale == "mini" and name not in MINIATURES:
            raise UsageError(
                f"names ({name}) must have a miniature, as {', '.join(MINIATURES)}; leave out --scale mini"
            )
    given = {name: value for name, value in of_miniatures.items() if value is not None}
    if given and scale != "mini":
        raise UsageError(f"{' and '.join(given)} must be given with --scale mini, whose trainings they are of")
    check_counts(**given)
    if scale == "mini" and not names:
        raise UsageError(f"scale (mini) must be given with names: {', '.join(MINIATURES)}")
    if scale == "mini" and (plan or run):
        raise UsageError("scale (mini) must be given without --plan and --run: it is trained and printed at once")
    if (plan or run) and not names:
        raise UsageError("plan and run must be given with names of tables; lowrank reproduce lists them")
    if plan and run:
        raise UsageError("plan must be given without --run: it prints what that would do")
    if job is not None and not run:
        raise UsageError(f"job ({job}) must be given with --run; --plan numbers the rows")


def _list(console: Console, output: Path) -> None:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("name", "shows", "needs", "GPU hours", "state here"):
        table.add_column(column, overflow="fold")
    for item in ITEMS.values():
        rows = _rows(item.name, output)
        there = f" {measured(rows)} of {len(rows)} rows are measured in {output}." if measured(rows) else ""
        table.add_row(item.name, item.title, item.needs, item.hours, f"{item.state}: {item.why}.{there}")
    console.print(table)
    console.print(
        "GPU hours: trainings × hours of one at 5e12 multiply-adds a second; minutes where there is none.\n"
        "lowrank reproduce NAME prints a table beside what is measured here; --plan prints the commands that measure, "
        "--run runs them.\nlowrank reproduce NAME --scale mini: a miniature, in minutes, of "
        f"{', '.join(MINIATURES)}.",
        soft_wrap=True,
        highlight=False,
    )


def _rows(name: str, output: Path) -> list[dict[str, Any]]:
    """The rows of a table with what is measured, but no costs, which take seconds; none of what is no table."""
    if name in WINDOW:
        return window_rows(WINDOW[name], output)
    return channel_rows(CHANNEL[name], output, costs=False) if name in CHANNEL else []


def _chains(
    names: Sequence[str], data: Mapping[str, str], pretrained: Mapping[str, str], changes: Path | None, output: Path
) -> list[Chain]:
    """The jobs of every row; a row that several tables share comes once."""
    chains: dict[str, Chain] = {}
    roots, weights = {ROOT}, set()
    if changes is not None:
        changes = Path(find_config(str(changes)))
    for name in names:
        found: list[Chain] = []
        if name in CHANNEL:
            rows = CHANNEL[name].rows
            weights |= {row.key for row in rows}
            found = [
                channel_chain(CHANNEL[name], row, output, data.get(ROOT), pretrained.get(row.key), changes)
                for row in rows
            ]
        elif name in WINDOW:
            benchmarks = WINDOW[name].benchmarks
            roots |= {benchmark.key for benchmark in benchmarks}
            weights |= {benchmark.weights for benchmark in benchmarks}
            found = [
                window_chain(each, output, data.get(each.key, data.get(ROOT)), pretrained.get(each.weights))
                for each in benchmarks
            ]
        chains |= {chain.name: chain for chain in found}
    for option, known, values in (("data", roots, data), ("pretrained", weights, pretrained)):
        for key in values:
            if key not in known:
                some = sorted(known)
                raise UsageError(f"{option}.{key} must be one of {', '.join(some)}{nearest(key, some)}")
    return list(chains.values())


def _chosen(chains: Sequence[Chain], run: bool, job: int | None, pretrained: Mapping[str, str]) -> list[Chain]:
    """The chains that are run now: those of given checkpoints, and all if the user says so."""
    if job is not None and not 1 <= job <= len(chains):
        raise UsageError(f"job ({job}) must be the number of a row of the plan, 1 to {len(chains)}")
    wanted = chains if job is None else [chains[job - 1]]
    if not run:
        wanted = [chain for chain in wanted if not chain.trains] if pretrained else []
    ready = [chain for chain in wanted if not chain.missing]
    if wanted and not ready:
        missing = list(dict.fromkeys(option for chain in wanted for option in chain.missing))
        raise UsageError(f"{', '.join(missing)} must be given: the data set's folder, or a checkpoint")
    return ready


def _print_plan(
    console: Console,
    names: Sequence[str],
    chains: Sequence[Chain],
    data: Mapping[str, str],
    pretrained: Mapping[str, str],
) -> None:
    for number, chain in enumerate(chains, start=1):
        needs = f", needs --{' and --'.join(chain.missing)}" if chain.missing else ""
        console.print(f"{number} {chain.name}{needs}", highlight=False)
        for each in chain.jobs:
            console.print(f"  {'done' if each.done else 'to do'}: {each.command}", soft_wrap=True, highlight=False)
    if not chains:
        for name in names:
            _print_how(console, name)
        return
    words = [*names, *(f"--data.{key}={value}" for key, value in (data or {ROOT: "DIR"}).items())]
    words += [f"--pretrained.{key}={value}" for key, value in pretrained.items()]
    console.print(
        f"one after the other, and on after an interruption: {shlex.join(['lowrank', 'reproduce', *words, '--run'])}\n"
        f"as a SLURM array: {shlex.join(['sbatch', f'--array=1-{len(chains)}', 'docs/guides/slurm_array.sh', *words])}",
        soft_wrap=True,
        highlight=False,
    )


def _print(console: Console, name: str, output: Path) -> None:
    item = ITEMS[name]
    if name not in CHANNEL and name not in WINDOW:
        _print_how(console, name)
        return
    published = ""
    if name in CHANNEL:
        table, rows = CHANNEL[name], channel_rows(CHANNEL[name], output)
        columns, title = channel_columns(table), f"GLMHA, {table.heading}"
    else:
        rows, columns = window_rows(WINDOW[name], output), WINDOW_COLUMNS[WINDOW[name].kind]
        title, published = f"{name}: {item.title}", WINDOW[name].published
    console.print(results_table(title, rows, columns))
    notes = [f"published: {published}"] if published else []
    notes += [f"measured as: {protocol}" for protocol in protocols(rows)]
    notes += [PARTIAL] if any(row.get("partial") for row in rows) else []
    if name in CHANNEL and CHANNEL[name].has_costs:
        notes.append("G: multiply-adds as the paper counts this network's; in other ways: lowrank analyze complexity")
    if measured(rows) < len(rows):
        notes.append(
            f"{measured(rows)} of {len(rows)} rows are measured; what measures them: lowrank reproduce {name} --plan"
        )
    notes.append(f"state: {item.state}: {item.why}")
    files = write_table(output, name, rows, columns, {"title": title, "published": published, "item": asdict(item)})
    _print_notes(console, notes, files)


def _print_how(console: Console, name: str) -> None:
    item = ITEMS[name]
    lines = [f"{name}: {item.title}", f"state: {item.state}: {item.why}"]
    lines += [f"needs: {item.needs}"] if item.needs else []
    lines += [f"command: {item.how}"] if item.how else []
    console.print("\n".join(lines), soft_wrap=True, highlight=False)


def _print_miniature(console: Console, name: str, seeds: int, steps: int | None, output: Path) -> None:
    folder = output / "mini"
    if name == ABLATION:
        tables = run_ablation(seeds, steps, folder)
    else:
        tables = [run_channel_table(int(name.removeprefix("glmha-table")), seeds, steps, folder)]
    for table in tables:
        rows, order = table.results(), str(table.order())
        console.print(results_table(table.title, rows, table.columns))
        settings = {"title": table.title, "quantity": table.quantity, "seeds": seeds, "order": order}
        files = write_table(output, f"{table.name}-mini", rows, table.columns, settings)
        notes = [
            f"{table.quantity}; ±: deviation over the seeds. A miniature says nothing of the published figures, only "
            "whether their order appears in small.",
            order,
        ]
        _print_notes(console, notes, files)


def _print_notes(console: Console, notes: Sequence[str], files: Sequence[Path]) -> None:
    console.print("\n".join([*notes, f"files: {', '.join(map(str, files))}"]), soft_wrap=True, highlight=False)
