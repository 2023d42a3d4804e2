"""The verb `models`: the released checkpoints that can be named."""

import dataclasses
import json as text
from collections.abc import Sequence

from glmha.shared.released.locate import cached, place
from glmha.shared.released.table import Released, released
from trainers.errors import nearest


def run_models(
    names: Sequence[str] = (), *, family: str | None = None, task: str | None = None, json: bool = False
) -> None:
    """List the released checkpoints of this package's networks, or describe some of them.

    Each can be named where a checkpoint is asked for: `--pretrained NAME`, `glmha.load_pretrained("NAME")`. It is
    downloaded when it is first used, into torch's cache, and held to its SHA-256. Some lie on drives that ask
    questions: their description says where, and where to put the file.

    Args:
        names: checkpoints to describe; none lists all.
        family: of the networks, or a part of its name; null: every family.
        task: word in the task, such as deblurring; null: every task.
        json: as JSON, with all that is known, instead of lines.

    Raises:
        ValueError: if there is no such checkpoint.
    """
    table = released()
    for name in names:
        if name not in table:
            raise ValueError(f"names ({name}) must be released checkpoints{nearest(name, table)}")
    chosen = [
        entry
        for entry in table.values()
        if (not names or entry.name in names)
        and (family is None or family.casefold() in entry.family.casefold())
        and (task is None or task.casefold() in entry.task.casefold())
    ]
    if json:
        print(text.dumps([described(entry) for entry in chosen], indent=2, ensure_ascii=False))
    elif names:
        for entry in chosen:
            print(
                "\n".join(f"{key:10}  {value}" for key, value in described(entry).items() if value is not None),
                end="\n\n",
            )
    else:
        _print_list(chosen)


def described(entry: Released) -> dict[str, object]:
    """All that is known of a released checkpoint, where its file is kept, and whether it is there."""
    return dataclasses.asdict(entry) | {"place": str(place(entry)), "here": cached(entry) is not None}


def _print_list(entries: Sequence[Released]) -> None:
    if not entries:
        print("no released checkpoint is of that family and task; lowrank models lists all")
        return
    width = max(len(entry.name) for entry in entries)
    tasks = max(len(entry.task) for entry in entries)
    for entry in entries:
        where = "here" if cached(entry) else "by name" if entry.address else "by hand"
        licence = entry.licence if entry.commercial else f"{entry.licence}, non-commercial"
        note = f"; {entry.note}" if entry.note else ""
        print(
            f"{entry.name:{width}}  {entry.task:{tasks}}  {entry.parameters / 1e6:5.2f} M  {where:7}  {licence}{note}"
        )
    print("\nby name: downloaded at the first use; by hand: lowrank models NAME says from where and to where.")
