"""Training crops and packs of images, made of a downloaded data set: in parallel, resumable, complete or absent."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from numpy.typing import NDArray

from datamodules.base.crops import Cut
from datamodules.base.published import RECORD, read_prepared
from datamodules.errors import DataError
from datamodules.files.atomic import atomic_file
from datamodules.files.images import list_images, read_image, write_image
from datamodules.files.packs import write_pack
from datamodules.pairs.dataset import fit_target, whole_multiple
from datamodules.preparation.crop_job import CropJob, Made
from datamodules.preparation.worker_pool import run

Progress = Callable[[str, int, int], None]
"""Takes the name of the work, the items done, and all items."""


def prepare(job: CropJob, *, workers: int = 0, progress: Progress = lambda *_: None) -> Made:
    """Make what a job asks for, or what is missing of it.

    All is written into a hidden folder beside `job.folder`, and becomes `job.folder` when it is complete and on the
    disk; a run that is stopped leaves the hidden folder, from which the next run goes on.

    Args:
        job: what to make.
        workers: processes; 0 works in this one.
        progress: called as the work goes on.

    Returns:
        Numbers of what is there now, and of what is new.

    Raises:
        DataError: if `job.folder` holds something else, another run is at work, or images cannot be used: all of these
            are named, after the others were cut.
        OSError: if crops cannot be written.
    """
    unfinished = job.unfinished
    if job.folder.exists():
        made = _finished(job)
        shutil.rmtree(unfinished, ignore_errors=True)
        return made
    unfinished.mkdir(parents=True, exist_ok=True)
    with _locked(unfinished):
        _check_settings(unfinished / "settings.json", job)
        images = len(job.pairs)
        if job.cut.size is None:
            files = job.whole_images
            frames = sum(map(len, files.values())) // len(job.sources)
            ready, crops, new = unfinished / "packs", frames, images
        else:
            ready = unfinished / "crops"
            new = _cut(job, ready, unfinished / "log", workers, progress)
            files = {half: {path.name: path for path in list_images(ready / half)} for half in job.sources}
            crops = len(files[job.targets])
        if job.pack:
            ready = unfinished / "packs"
            # What a killed run has left there cannot be used.
            shutil.rmtree(ready, ignore_errors=True)
            _pack(files, ready, workers, progress)
        record = {**job.settings, "images": images, "crops": crops, "source": _digest(job)}
        _write_json(ready / RECORD, record)
        ready.rename(job.folder)
    shutil.rmtree(unfinished)
    return Made(images, crops, new)


@dataclass(frozen=True)
class _UncutPair:
    """An image to cut with its counterpart, and the folders of their crops."""

    name: str
    image: Path
    target: Path
    folders: tuple[Path, ...]
    cut: Cut
    scale: int


def _cut(job: CropJob, folder: Path, log: Path, workers: int, progress: Progress) -> int:
    """Cut what the log does not have, and leave nothing else in the folders; the number of images cut."""
    done = _read_log(log, job, folder)
    folders = tuple(folder / half for half in job.sources)
    uncut = [
        _UncutPair(name, image, target, folders, job.cut, job.scale)
        for name, image, target in zip(job.pairs.names, job.pairs.inputs, job.pairs.targets, strict=True)
        if name not in done
    ]
    faults: list[str] = []
    with log.open("a") as file:
        progress("crops", 0, len(uncut))
        for number, (pair, result) in enumerate(zip(uncut, run(_cut_pair, uncut, workers), strict=True), 1):
            if isinstance(result, str):
                faults.append(result)
            else:
                done[pair.name] = result
                entry = {"name": pair.name, "crops": result, "bytes": _sizes(pair.image, pair.target)}
                file.write(json.dumps(entry) + "\n")
                file.flush()
            progress("crops", number, len(uncut))
    if faults:
        raise _unusable(faults)
    wanted = {f"{_crop_name(name, number)}.png" for name, count in done.items() for number in range(count)}
    for path in (path for half in folders for path in half.iterdir() if path.name not in wanted):
        # Of an image that the source no longer has, or a file that was being written when a run was killed.
        path.unlink()
    return len(uncut)


def _cut_pair(pair: _UncutPair) -> int | str:
    """Write the crops of an image and its counterpart; their number, or what is wrong with them."""
    try:
        target = read_image(pair.target)
        arrays = [whole_multiple(target, pair.scale)]
        if len(pair.folders) == 2:
            image = read_image(pair.image)
            arrays = [image, fit_target(target, image, pair.scale, pair.target, pair.image)]
    except DataError as error:
        return str(error)
    height, width = (side // pair.scale for side in arrays[-1].shape[:2])
    regions = pair.cut.regions(height, width, pair.name, pair.scale)
    for folder, array, factor in zip(pair.folders, arrays, (1, pair.scale)[-len(arrays) :], strict=True):
        for number, region in enumerate(regions):
            rows, columns = (slice(factor * edge.start, factor * edge.stop) for edge in region)
            write_image(folder / f"{_crop_name(pair.name, number)}.png", array[rows, columns])
    return len(regions)


def _crop_name(name: str, number: int) -> str:
    return f"{name}-{number:03}"


def _pack(files: Mapping[str, Mapping[str, Path]], folder: Path, workers: int, progress: Progress) -> None:
    for half, images in files.items():
        names = sorted(images)
        paths = [images[name] for name in names]
        write_pack(folder / half, _counted(names, run(_read, paths, workers), f"pack of {half}", progress))


def _counted(
    names: Sequence[str], images: Iterable[NDArray | str], task: str, progress: Progress
) -> Iterator[tuple[str, NDArray]]:
    faults: list[str] = []
    for number, (name, image) in enumerate(zip(names, images, strict=True), 1):
        if isinstance(image, str):
            faults.append(image)
        elif not faults:
            yield name, image
        progress(task, number, len(names))
    if faults:
        raise _unusable(faults)


def _read(path: Path) -> NDArray | str:
    """The image, or what is wrong with it."""
    try:
        return read_image(path)
    except DataError as error:
        return str(error)


def _unusable(faults: list[str]) -> DataError:
    return DataError(f"source must hold usable images only, got {len(faults)} that are not:\n" + "\n".join(faults))


def _finished(job: CropJob) -> Made:
    """Numbers of what a former run made; DataError if it is not what the job would make."""
    remedy = "give another output, or remove it"
    try:
        record = read_prepared(job.folder / RECORD)
    except (OSError, ValueError) as error:
        raise DataError(
            f"output ({job.folder}) must be absent or made by a former run, got neither; {remedy}"
        ) from error
    _check_agreement(job.folder, record, job)
    if record.get("source") != _digest(job):
        raise DataError(f"output ({job.folder}) must be made of the source as it is now, got another; {remedy}")
    images, crops = record.get("images"), record.get("crops")
    if not (isinstance(images, int) and isinstance(crops, int)):
        raise DataError(f"output ({job.folder}) must record its images and crops, got {images} and {crops}; {remedy}")
    return Made(images, crops, 0)


def _check_settings(path: Path, job: CropJob) -> None:
    if path.exists():
        _check_agreement(path.parent, read_prepared(path), job)
    else:
        _write_json(path, job.settings)


def _check_agreement(folder: Path, former: Mapping[str, object], job: CropJob) -> None:
    for name, value in job.settings.items():
        if former.get(name) != value:
            raise DataError(
                f"output ({folder}) must be of this run's {name} ({value}), got {former.get(name)} of a former run; "
                "give the same, or another output, or remove it"
            )


def _read_log(path: Path, job: CropJob, folder: Path) -> dict[str, int]:
    """Number of crops of every image that former runs have cut and that is still the same."""
    present: list[dict[str, set[str]]] = []
    for half in job.sources:
        present.append({})
        for crop in (folder / half).glob("*.png"):
            present[-1].setdefault(crop.stem.rpartition("-")[0], set()).add(crop.name)
    sources = dict(zip(job.pairs.names, zip(job.pairs.inputs, job.pairs.targets, strict=True), strict=True))
    done = {}
    # A run that was killed may have left half a line.
    lines = path.read_text(errors="replace").split("\n")[:-1] if path.exists() else []
    _write(path, "".join(f"{line}\n" for line in lines))
    for line in lines:
        try:
            entry = json.loads(line)
            name, count = entry["name"], entry["crops"]
            same = name in sources and entry["bytes"] == _sizes(*sources[name])
        except (ValueError, LookupError, TypeError, RecursionError):
            # Nothing that this command has written: the image is cut again.
            continue
        crops = [half.get(name, set()) for half in present] if same else []
        # Fewer crops in the log than in the folder are as wrong as more of them.
        if crops and all(
            len(half) == count and half == {f"{_crop_name(name, number)}.png" for number in range(count)}
            for half in crops
        ):
            done[name] = count
    return done


def _sizes(*files: Path) -> list[int]:
    return [_size(file) for file in files]


def _size(path: Path) -> int:
    """Bytes of a file, or of those in a clip's folder; 0 where there is nothing."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.iterdir())
    return path.stat().st_size if path.exists() else 0


def _digest(job: CropJob) -> str:
    """Of the names and sizes of the source's files."""
    text = json.dumps(
        [
            (name, *_sizes(*files))
            for name, *files in zip(job.pairs.names, job.pairs.inputs, job.pairs.targets, strict=True)
        ]
    )
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    _write(path, json.dumps(content, indent=1) + "\n")


def _write(path: Path, text: str) -> None:
    with atomic_file(path) as file:
        file.write(text.encode())


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder; the system opens the lock when the process ends, however it does."""
    with (folder / "lock").open("w") as file:
        if os.name == "posix":
            import fcntl  # absent elsewhere

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise DataError(
                    f"output ({folder}) must not be in use, got another run at work; wait for it"
                ) from error
        yield
