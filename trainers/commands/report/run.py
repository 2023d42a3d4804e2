"""The page of one run."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from trainers.commands.report.configuration import options_of_run
from trainers.commands.report.curves import curves_of_run
from trainers.commands.report.pictures import logged_scenes, pictures_of_results, restored_scenes
from trainers.commands.report.quality import quality_charts
from trainers.commands.report.results import Result
from trainers.commands.report.sources import Sources
from trainers.errors import printable
from trainers.evaluation.tuning_figures import FIGURES_FILE
from trainers.monitoring.logged import Logged, read_logged
from trainers.monitoring.remaining import duration
from trainers.reports.page.content import (
    Block,
    Commands,
    Facts,
    Folded,
    Notice,
    Section,
    Table,
    Text,
    Tile,
    Tiles,
    Viewer,
)
from trainers.reports.tables import Column
from trainers.runs.listing import CONFIG, Listed
from trainers.runs.record_file import LARGEST_RECORD, read_object
from trainers.runs.run import Run
from trainers.tasks.finetuning import FineTuningTask
from trainers.tasks.restoration import RestorationTask
from trainers.tasks.substitution import SubstitutionTask
from trainers.tasks.warm_start import WarmStartTask

_LOG_LINES = 200
# As recipes name them.
_DRAWING_TRIPLETS = [
    f"trainers.{task.__name__}" for task in (RestorationTask, FineTuningTask, SubstitutionTask, WarmStartTask)
]


def sections_of_run(listed: Listed, sources: Sources, results: Sequence[Result]) -> list[Section]:
    """The parts of a run's page: summary, curves, results, pictures, configuration, environment, commands, log.

    Args:
        listed: the run.
        sources: what may be read.
        results: what there is of results.
    """
    logged = read_logged(listed.folder, sources.holds)
    parts: dict[str, list[Block]] = {
        "Summary": [*summary(listed, logged), *_fine_tuning(listed.folder, sources)],
        "Curves": curves_of_run(logged),
        "Results": [block for result in results for block in result.blocks],
        "Quality and cost": quality_charts(results),
        "Pictures": [*_pictures(listed, logged, sources), *pictures_of_results(results, sources)],
        "Configuration": [] if _configuration(listed) is None else options_of_run(_configuration(listed) or {}),
        "Environment": environment(listed, results),
        "Commands": [Commands(commands(listed))],
        "Log": _log(listed.folder, sources),
    }
    return [Section(title, blocks) for title, blocks in parts.items() if blocks]


def summary(listed: Listed, logged: Logged | None = None) -> list[Block]:
    """Numbers and facts of a run.

    Args:
        listed: the run.
        logged: what it has logged, for its last loss; None: not read.
    """
    run = listed.run
    if run is None:
        return [Notice(f"This run's record cannot be shown: it {listed.outcome}.")]
    tiles = []
    if run.best is not None:
        step = "" if run.best_checkpoint is None else Path(run.best_checkpoint).stem
        tiles.append(Tile(f"best {run.monitor}", f"{run.best:.4g}", step))
    tiles.append(Tile("steps", *steps(run)))
    loss = [] if logged is None else logged.scalars.get("train/loss", [])
    if loss:
        tiles.append(Tile("last train/loss", f"{loss[-1][1]:.4g}", f"step {loss[-1][0] + 1}"))
    tiles.append(Tile("duration", duration(_seconds(run)), f"began {_time(run.started)}"))
    facts = {
        "state": listed.state,
        "folder": str(listed.folder),
        "last sign of life": _time(run.updated),
        "best checkpoint": run.best_checkpoint,
        "last checkpoint": run.last_checkpoint,
        "continues": run.resumed_from,
        "SLURM job": run.job,
    }
    return [Tiles(tiles), Facts({name: printable(value) for name, value in facts.items() if value})]


def steps(run: Run) -> tuple[str, str]:
    """Steps that a run has taken, and of how many."""
    if run.max_steps is not None:
        return str(run.step), f"of {run.max_steps}"
    return str(
        run.step
    ), f"epoch {run.epoch} of {run.max_epochs}" if run.max_epochs is not None else f"epoch {run.epoch}"


def began(run: Run | None) -> str:
    """When a run began, to the minute; empty for a run without a record."""
    return "" if run is None else _time(run.started)


def environment(listed: Listed, results: Sequence[Result]) -> list[Block]:
    """Where a run and its results were made: machine, device, versions.

    Args:
        listed: the run.
        results: of its evaluations.
    """
    blocks: list[Block] = []
    run = listed.run
    if run is not None:
        facts = {"machine": run.host, "process": str(run.process)}
        facts |= {} if run.environment is None else {name: str(value) for name, value in run.environment.items()}
        blocks.append(Facts(facts, "Training"))
    return blocks + list(environment_of_results(results))


def environment_of_results(results: Sequence[Result]) -> Iterator[Block]:
    """Where results were made: weights, seed, machine, versions; results of the same place together.

    Args:
        results: whose files tell it.
    """
    places: dict[str, tuple[dict[str, str], list[str]]] = {}
    for result in results:
        facts: dict[str, str] = {}
        for key in ("weights", "seed", "device", "machine", "versions"):
            value = result.content.get(key)
            if isinstance(value, Mapping):
                prefix = "weights: " if key == "weights" else ""
                facts |= {f"{prefix}{name}": str(inner) for name, inner in value.items()}
            elif value is not None:
                facts[key] = str(value)
        if facts:
            places.setdefault(json.dumps(facts), (facts, []))[1].append(result.name)
    for facts, names in places.values():
        yield Facts(facts, ", ".join(names))


def commands(listed: Listed) -> dict[str, str]:
    """Commands to go on with a run, to repeat it, and to use its network: purpose → command.

    Args:
        listed: the run.
    """
    folder = listed.folder
    config, found = folder / CONFIG, {}
    if listed.command is not None:
        found["go on with it"] = listed.command
    if config.is_file():
        found["repeat it from the beginning"] = shlex.join(["lowrank", "fit", "--config", str(config)])
    weights = _weights(listed)
    if weights is not None and config.is_file():
        verb = "test" if _may_be_tested(listed) else "validate"
        found["evaluate it"] = shlex.join(["lowrank", verb, "--config", str(config), "--ckpt_path", str(weights)])
    if weights is not None:
        options = ["--pretrained", str(weights), "--output", "restored"]
        found["restore images by it"] = shlex.join(["lowrank", "restore", "PHOTO.png", *options])
    found["see its curves in TensorBoard"] = shlex.join(["tensorboard", "--logdir", str(folder)])
    found["make this page anew"] = shlex.join(["lowrank", "report", str(folder)])
    return {purpose: printable(command) for purpose, command in found.items()}


def draws_triplets(listed: Listed) -> bool:
    """Whether a run's task draws input, output and target side by side, as this package's restoration tasks do."""
    model = (_configuration(listed) or {}).get("model")
    # Nothing is imported because a file names it.
    return isinstance(model, Mapping) and model.get("class_path") in _DRAWING_TRIPLETS


def _pictures(listed: Listed, logged: Logged, sources: Sources) -> list[Block]:
    found = {
        "Validation": logged_scenes(logged, triplets=draws_triplets(listed)),
        "Restored images": restored_scenes({"restored": listed.folder}, sources.holds),
    }
    return [Viewer(title, scenes) for title, scenes in found.items() if scenes]


def _fine_tuning(folder: Path, sources: Sources) -> list[Block]:
    """Means of the exact network, of the substituted one before training, and of the last one."""
    file = folder / FIGURES_FILE
    if not sources.holds(file):
        return []
    try:
        figures = read_object(file)
        rows = [
            {
                "metric": str(metric),
                "exact": float(figures["exact"][metric]),
                "substituted": float(figures["substituted"][metric]),
                "now": None if figures["now"] is None else float(figures["now"][metric]),
            }
            for metric in figures["protocols"]
        ]
        notes = [f"{metric}: {protocol}" for metric, protocol in figures["protocols"].items()]
        notes.append(f"means over {len(figures['images'])} validation images; now: step {figures['step']}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return [Notice(f"{FIGURES_FILE} is damaged: {error!r}")]
    columns = (
        Column("metric", "metric"),
        Column("exact attention", "exact", ".4f"),
        Column("substituted, before training", "substituted", ".4f"),
        Column("now", "now", ".4f"),
    )
    return [Table("Fine-tuning", columns, rows, notes)]


def _log(folder: Path, sources: Sources) -> list[Block]:
    file = folder / "train.log"
    if not sources.holds(file) or file.stat().st_size > LARGEST_RECORD:
        return []
    lines = [printable(line) for line in file.read_text(encoding="utf-8", errors="replace").splitlines()]
    text = Text(lines[-_LOG_LINES:])
    return [Folded(f"The last {len(text.lines)} of {len(lines)} lines of train.log", [text])] if lines else []


def _configuration(listed: Listed) -> Mapping[str, Any] | None:
    return None if listed.run is None else listed.run.configuration


def _may_be_tested(listed: Listed) -> bool:
    """Whether a run's data may have test sets: folders of one's own that were left out are none."""
    data = (_configuration(listed) or {}).get("data")
    options = data.get("init_args") if isinstance(data, Mapping) else None
    return not (isinstance(options, Mapping) and options.get("test_input", "") is None)


def _weights(listed: Listed) -> Path | None:
    """The best checkpoint of a run, or its last one, where they lie now."""
    folder = listed.folder / "checkpoints"
    named = [] if listed.run is None else [listed.run.best_checkpoint, listed.run.last_checkpoint]
    candidates = [folder / Path(name).name for name in named if name]
    return next((file for file in candidates if file.is_file()), None)


def _seconds(run: Run) -> float:
    return (datetime.fromisoformat(run.updated) - datetime.fromisoformat(run.started)).total_seconds()


def _time(text: str) -> str:
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M} UTC"
