"""The verb `prepare`: looks over a downloaded data set, and makes the crops or packs that networks train on."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from datamodules.base.checks import Check, call
from datamodules.base.restoration import available_cores
from datamodules.errors import DataError
from datamodules.preparation.crop_job import CropJob, Made
from datamodules.preparation.crops import Progress, prepare
from datamodules.preparation.inventory import DATA_SETS, DatasetName, Source, find_source
from datamodules.preparation.published_crops import choose_cut, make_jobs, make_links
from datamodules.preparation.worker_pool import run
from trainers.errors import printable


def run_prepare(
    dataset: DatasetName,
    *,
    source: Path,
    output: Path | None = None,
    verify: bool = False,
    scale: int | None = None,
    crop_size: int | None = None,
    step: int | None = None,
    crops_per_image: int | None = None,
    seed: int | None = None,
    pack: bool = False,
    workers: int | None = None,
) -> None:
    """Look over a downloaded data set, and cut the crops that networks are trained on.

    What is there is held against the published counts. With `output`, crops (GoPro, SIDD, DIV2K), or packs of images
    that are faster to read, are written there beside links to what they are not made of, in the layout that the data
    modules take. A run that was stopped is gone on with by the same command; after one that was finished it does
    nothing.

    Args:
        dataset: gopro (with HIDE beside it), realblur, rain13k, sidd, div2k (with the test sets beside it), reside,
            ntire2022, cassi (CAVE, KAIST and the mask); or clips: reds, vid4 (with UDM10 beside it), vimeo90k,
            gopro_video, dvd, or davis (with Set8 beside it).
        source: its folder, or the one that it is in.
        output: folder for what is made; null: nothing is.
        verify: read every image and cube first, and name all that cannot be used.
        scale: of the low-resolution images (div2k); null: 2.
        crop_size: side of a crop in pixels of the target; null: as published (gopro 512, sidd 256, div2k 480).
        step: pixels between neighbouring crops; null: as published (gopro 256, div2k 240).
        crops_per_image: crops at random places instead of a grid; null: as published (sidd 300).
        seed: of random places; null: 0.
        pack: one uncompressed file of all crops, of all images of rain13k or reside, or of all frames of a clip: faster
            to read, and larger.
        workers: processes that read and cut; 0 works in this one; null: one for each core.

    Raises:
        DataError: if the source is not there or has faults, all of which are named, or the output holds other things.
        ValueError: if an option does not fit the data set, or nothing is made that it could act on.
    """
    if workers is not None and workers < 0:
        raise ValueError(f"workers ({workers}) must be at least 0; 0 works in the main process")
    if workers is not None and output is None and not verify:
        raise ValueError(f"workers ({workers}) must be left out where nothing is read; give --verify or --output")
    processes = available_cores() if workers is None else workers
    cut = None
    if output is None:
        _refuse_without_output(crop_size=crop_size, step=step, crops_per_image=crops_per_image, seed=seed, pack=pack)
    elif DATA_SETS[dataset].published_cut is None:
        raise ValueError(f"output ({output}) must be null for {dataset}, which is trained on as it is; use verify")
    else:
        cut = choose_cut(dataset, crop_size, step, crops_per_image, seed)
    found = find_source(dataset, source, scale=scale)
    _print_table(found)
    faults = list(found.faults.errors)
    with _progress_bars() as progress:
        if verify:
            faults += found.faults.shortfalls + _verify(found, processes, progress)
        if faults:
            raise DataError(
                f"source ({source}) must hold {dataset} as published, got {len(faults)} faults:\n" + "\n".join(faults)
            )
        made: list[tuple[CropJob, Made]] = []
        if output is not None and cut is not None:
            jobs = make_jobs(found, output, cut, pack=pack)
            made = [(job, prepare(job, workers=processes, progress=progress)) for job in jobs]
            make_links(found, output)
    _print_result(found, verify, made)


def _refuse_without_output(**options: int | None) -> None:
    """Refuse options of crops and packs where none are made; None and False are not given."""
    for name, value in options.items():
        if value is not None and value is not False:
            raise ValueError(f"{name} ({value}) must be left out without output, where nothing is made; give --output")


def _verify(source: Source, workers: int, progress: Progress) -> list[str]:
    """List everything that is wrong with the files, once each."""
    checks: list[Check] = [check for part in source.sets for check in part.checks]
    faults: list[str] = []
    progress("verify", 0, len(checks))
    for number, found in enumerate(run(call, checks, workers), 1):
        faults += found
        progress("verify", number, len(checks))
    # A clean image may belong to several degraded ones.
    return list(dict.fromkeys(faults))


@contextmanager
def _progress_bars() -> Iterator[Progress]:
    """Show a bar for every task that is told of."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True, markup=False, emoji=False)
    with Bars(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        tasks = {}

        def show(description: str, done: int, total: int) -> None:
            if description not in tasks:
                tasks[description] = bars.add_task(description, total=total)
            bars.update(tasks[description], completed=done, total=total)

        yield show


def _print_table(source: Source) -> None:
    table = Table("part", "here", "published")
    for part in source.sets:
        table.add_row(printable(part.name), str(part.count), "any" if part.published is None else str(part.published))
    Console(markup=False, highlight=False, emoji=False).print(table)
    if source.absent:
        print(printable(f"not here: {', '.join(source.absent)}"))
    for message in source.faults.shortfalls:
        print(printable(message))


def _print_result(source: Source, verified: bool, made: list[tuple[CropJob, Made]]) -> None:
    if verified:
        print(f"verified: every file of {', '.join(part.name for part in source.sets)} can be used")
    for job, result in made:
        kind = "frames" if job.of_clips else "whole images" if job.cut.size is None else "crops"
        whole = f"{result.crops} {kind} of {result.images} {'clips' if job.of_clips else 'images'}"
        if result.new:
            print(f"{job.folder}: {whole}, {result.new} of them in this run")
        else:
            print(f"{job.folder}: {whole} were there: nothing to do")
