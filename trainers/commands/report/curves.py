"""Charts of what runs have logged."""

from collections.abc import Iterator, Mapping, Sequence

from trainers.monitoring.logged import Logged
from trainers.reports.page.content import Block, Chart, Charts, Facts, Folded, Series

_LOGARITHMIC = ("loss", "gradient_norm", "learning_rate")
_FIRST = ("train/loss", "val/psnr")
_SECONDARY = ("train/samples_per_second", "train/data_wait", "train/memory_mib")
_WATCHED = "watch/"
MOST_RUNS = 16
"""Runs whose curves are drawn into the same chart; more cannot be told apart."""


def curves_of_run(logged: Logged) -> list[Block]:
    """Charts of one run: losses and scores, then speed and what watchers saw, folded.

    Args:
        logged: what the run has logged.
    """
    curves = {tag: values for tag, values in logged.scalars.items() if len(values) > 1}
    single = {
        tag: f"{values[0][1]:.5g} (step {values[0][0] + 1})"
        for tag, values in sorted(logged.scalars.items())
        if len(values) == 1 and not tag.startswith(_WATCHED)
    }
    main, more = _split(curves)
    blocks: list[Block] = [Facts(single)] if single else []
    if main:
        blocks.append(Charts([_chart(tag, {"": curves[tag]}) for tag in main]))
    folded = [_chart(tag, {"": curves[tag]}) for tag in more]
    folded += _watched(curves)
    if folded:
        blocks.append(Folded(f"Speed, memory and attention: {len(folded)} more charts", [Charts(folded)]))
    return blocks


def curves_of_runs(logged: Mapping[str, Logged]) -> list[Block]:
    """Charts in which the curves of several runs lie together; speed and memory are folded.

    Args:
        logged: name of the run → what it has logged, the newest last.
    """
    drawn = dict(list(logged.items())[-MOST_RUNS:])
    tags = {tag: None for each in drawn.values() for tag, values in each.scalars.items() if len(values) > 1}
    curves = {tag: {name: each.scalars[tag] for name, each in drawn.items() if tag in each.scalars} for tag in tags}
    main, more = _split(curves)
    numbers = {name: index for index, name in enumerate(drawn)}
    legend = list(numbers.items())
    notes = [f"The {MOST_RUNS} newest of {len(logged)} runs."] if len(drawn) < len(logged) else []
    blocks: list[Block] = []
    if main:
        blocks.append(Charts([_chart(tag, curves[tag], numbers) for tag in main], legend=legend, notes=notes))
    if more:
        charts = Charts([_chart(tag, curves[tag], numbers) for tag in more], legend=legend)
        blocks.append(Folded(f"Speed and memory: {len(more)} more charts", [charts]))
    return blocks


def _split(tags: Mapping[str, object]) -> tuple[list[str], list[str]]:
    shown = [tag for tag in tags if not tag.startswith(_WATCHED)]
    main = sorted((tag for tag in shown if not _secondary(tag)), key=_rank)
    return main, sorted(tag for tag in shown if _secondary(tag))


def _secondary(tag: str) -> bool:
    return tag.startswith((*_SECONDARY, "train/gradient_norm/", "train/learning_rate/"))


def _rank(tag: str) -> tuple[int, int, str]:
    first = _FIRST.index(tag) if tag in _FIRST else len(_FIRST)
    return first, ("val/" not in tag) + 2 * tag.endswith(("gradient_norm", "learning_rate")), tag


def _chart(
    tag: str, curves: Mapping[str, Sequence[tuple[int, float]]], numbers: Mapping[str, int] | None = None
) -> Chart:
    series = [Series(name or tag, values, (numbers or {}).get(name, 0)) for name, values in curves.items()]
    values = [value for one in series for _, value in one.points]
    logarithmic = any(word in tag for word in _LOGARITHMIC) and all(value > 0 for value in values)
    return Chart(tag, "step", series, log_y=logarithmic and max(values) > 8 * min(values))


def _watched(scalars: Mapping[str, Sequence[tuple[int, float]]]) -> Iterator[Chart]:
    """A chart for each kind of figure about attention, a curve for each module."""
    kinds: dict[str, list[str]] = {}
    for tag in scalars:
        if tag.startswith(_WATCHED):
            kinds.setdefault("/".join(tag.split("/")[:2]), []).append(tag)
    for kind, tags in kinds.items():
        series = [Series(tag[len(kind) + 1 :] or tag, scalars[tag], index) for index, tag in enumerate(tags)]
        yield Chart(kind, "step", series)
