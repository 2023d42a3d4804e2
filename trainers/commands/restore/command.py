"""The verb `restore`: image files and clips of any size, depth and kind through a released or trained network."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

import nystra
from datamodules.clips.film_writer import FilmOptions
from datamodules.files.encoding import LOSSY_SUFFIXES
from glmha.out_of_core.network import OutOfCore
from glmha.shared.image_network import image_rules
from glmha.shared.released.download import digest_of
from glmha.shared.released.locate import locate
from trainers.commands.restore.clip_file import ClipOptions, RestoredClip
from trainers.commands.restore.clip_targets import check_film_options, holds_films, name_clip_targets
from trainers.commands.restore.clips import restore_clips
from trainers.commands.restore.image_file import FileOptions, RestoredImage
from trainers.commands.restore.images import restore_each
from trainers.commands.restore.shares import find_share, run_processes
from trainers.commands.restore.targets import Format, name_targets
from trainers.devices.choice import choose_device
from trainers.networks import load_network
from trainers.runtimes.running import GRAPH_SUFFIXES, GraphNetwork, load_graph
from trainers.tiling.arrays import RestoreOptions
from trainers.tiling.clips import ClipTiles


def restore_images(
    images: list[Path],
    *,
    pretrained: str | Path,
    output: Path,
    network: str | None = None,
    tile: int | Literal["auto"] | None = "auto",
    overlap: int | None = None,
    frames: int | Literal["auto"] | None = "auto",
    frame_overlap: int | None = None,
    noise_level: float | None = None,
    device: str = "auto",
    precision: Literal["float32", "bf16"] = "float32",
    self_ensemble: bool = False,
    kernel: nystra.Kernel | None = None,
    plan: Path | None = None,
    window_size: int | None = None,
    suffix: str = "",
    format: Format | None = None,
    quality: int | None = None,
    codec: str | None = None,
    rate: float | None = None,
    exif: bool = False,
    overwrite: bool = False,
    devices: int = 1,
    share: str | None = None,
    max_memory: float | None = None,
) -> list[RestoredImage] | list[RestoredClip]:
    """Restore images, folders of images, films and folders of frames with a pretrained network, into another folder.

    Size and bit depth (8, 16 or float) are kept, so are grey, colour and alpha, the colour profile, and the structure
    of a folder below it. Alpha is copied (resized if the network enlarges). Results are upright, and no result replaces
    an image that is given. A grey image goes through a colour network as three equal channels, whose mean is taken; a
    colour image through a grey network channel by channel. JPEG becomes PNG, unless `format` says otherwise.
    The network never sees more than a tile; the image itself is never on the device.

    Films, and folders of frames with a network of clips, become films and folders of frames. Codec, pixel format, times
    of the frames and sound of a film are kept. Beside the network only the frames of one tile in time are in memory.
    Finished frames lie in a hidden folder beside the result: after a stop the same command goes on with the next one.
    A network of images restores a film frame by frame.

    Args:
        images: image files, and folders that are searched with their sub-folders; or films, folders of frames, and
            folders that those are in.
        pretrained: checkpoint, as released or as trained here: a file, a name of `lowrank models`, or an address
            (https://…, hf://OWNER/NAME).
        output: folder for the results; made if it is missing.
        network: function or class that makes a network of another library, as package.module:name, found from the
            working directory or among installed packages; pretrained holds its weights. null: a network of this
            package, which the checkpoint tells.
        tile: largest side in pixels of what the network sees at once; less needs less memory. auto: 512, of a network
            of clips 128; null: the whole image.
        overlap: pixels that neighbouring tiles share at least, where they are blended (of clips the outer half is cut
            off); null: 48, of a network of clips 20.
        frames: most frames that a network of clips sees at once; auto: 16; null: the whole clip.
        frame_overlap: frames that neighbouring tiles in time share at least, where their mean is taken; null: 2.
        noise_level: strength of the noise in grey levels of 255, for networks of clips that are told it; null: none.
        device: auto (CUDA, else MPS, else XPU, else CPU), cpu, cuda, cuda:1, …
        precision: float32, or bf16: faster and smaller, with autocast.
        self_ensemble: average over the eight flips and quarter turns; a little better, eight times slower.
        kernel: what replaces softmax in a window-attention network, such as ContentPooling; null: nothing.
        plan: file of a plan, from lowrank analyze plan: kernels by site, memory format and precision; null: none.
        window_size: side of the windows that such a network attends in; null: as the checkpoint records, else as
            trained.
        suffix: put between the name and the extension of each result.
        format: of all results; same: that of each image, JPEG included; null: the same, but PNG for JPEG. Of clips:
            png, a folder of frames; mp4, mkv or mov, a film; null: as each clip is.
        quality: 1 to 100, of results in JPEG (null: 95) and WebP (null: without loss); of films the constant rate
            factor of the encoder, 0 to 63, lower is better (null: 16).
        codec: of films: h264, hevc, av1, vp9, ffv1 and the like; null: that of each film, h264 for frames.
        rate: frames per second of a film that is made of a folder of frames; null: 25.
        exif: hand on description, camera, exposure, date, place and author.
        overwrite: replace results that exist; otherwise they are kept and their images passed over. Empty files are no
            results.
        devices: processes on this machine that share the images out, each on a GPU of its own where there are several.
        share: K/N, to restore the K-th of N shares of the images or clips; null: all of them, or the share that
            torchrun, srun or an array of SLURM jobs gives to this process.
        max_memory: GiB. Instead of tiles, a network with channel attention (Restormer, MST, MST++) is given the whole
            image, row by row, in so much memory beside the image and the result; what does not fit lies in temporary
            files (TMPDIR). The result is that of tile null, in up to twice the time. null: tiles.

    Returns:
        One entry per image or clip restored in this run; of images the first 1000 of each process.

    Raises:
        DataError: if a path is missing, two results would have one name or a result would be a given image (nothing is
            restored then), or, after all others were restored, if some images could not be read, restored or written.
        ValueError: if the checkpoint, its channels, the device, the kernel, the tiles or the quality do not fit, or
            nothing can be written any more.
    """
    given = dict(locals())
    if devices < 1 or (devices > 1 and share is not None):
        raise ValueError(f"devices ({devices}) must be at least 1, and 1 with share ({share})")
    if devices > 1:
        return run_processes(restore_images, {**given, "devices": 1}, devices)
    part = find_share(share)
    if kernel is not None and plan is not None:
        raise ValueError(f"kernel ({kernel}) must be null with plan ({plan}), which has a kernel for every site")
    if max_memory is not None:
        if tile not in ("auto", None):
            raise ValueError(f"tile ({tile}) must be left out with max_memory ({max_memory}): the image is not cut")
        tile = None
    if overlap is not None and tile is None:
        raise ValueError(f"overlap ({overlap}) must be null where whole images are restored (tile null, max_memory)")
    films = holds_films(images)
    naming = partial(name_targets, images, output, suffix=suffix, format=format, overwrite=overwrite, share=part)
    # A network of clips takes folders for clips, so that the results of folders can be named only when it is known.
    targets = None if films or all(path.is_dir() for path in images) else naming()
    # Also where no image is left to restore: what is asked for is checked, or it would be taken and ignored.
    chosen = choose_device(part.device(device))
    windows: dict[str, Any] = {} if window_size is None else {"window_size": window_size}
    if Path(pretrained).suffix in GRAPH_SUFFIXES:
        changes = {"network": network, "kernel": kernel, "plan": plan, "window_size": window_size}
        net: nn.Module = _load_graph(Path(pretrained), chosen, device, precision, changes)
    else:
        net = load_network(pretrained, network, **windows).to(chosen)
    if kernel is not None:
        nystra.substitute(net, kernel)
    if plan is not None:
        chosen_ways = nystra.Plan.load(plan)
        chosen_ways.apply(net)
        precision = chosen_ways.precision if precision == "float32" else precision
    if max_memory is not None:
        net = OutOfCore(net, int(max_memory * 2**30))
    of_clips = bool(image_rules(net).frame_multiple)
    side = (128 if of_clips else 512) if tile == "auto" else tile
    shared = (20 if of_clips else 48) if overlap is None else overlap
    options = RestoreOptions(side, shared, torch.bfloat16 if precision == "bf16" else None, self_ensemble)
    if not of_clips:
        _refuse_for_images(frames=None if frames == "auto" else frames, frame_overlap=frame_overlap)
    if of_clips or films:
        told = getattr(net, "image_channels", 3) == 4
        if told != (noise_level is not None):
            raise ValueError(
                f"noise_level ({noise_level}) must be {'the strength of the noise' if told else 'null'} for this "
                f"network, which {'takes' if told else 'does not take'} it; {'20 is usual' if told else 'leave it out'}"
            )
        clip_targets = {
            clip: target
            for clip, target in name_clip_targets(images, output, suffix=suffix, format=format).items()
            if part.takes(target.name)
        }
        check_film_options(clip_targets, exif=exif or None, codec=codec, quality=quality, rate=rate)
        clip_options = ClipOptions(
            options,
            ClipTiles(16 if frames == "auto" else frames, 2 if frame_overlap is None else frame_overlap),
            FilmOptions(codec, quality, None if rate is None else Fraction(rate).limit_denominator(1001)),
            noise_level,
            {
                "pretrained": digest_of(locate(pretrained)),
                "network": network,
                "kernel": None if kernel is None else str(kernel),
                "plan": None if plan is None else digest_of(plan),
                "window_size": window_size,
            },
        )
        with _progress_bars("clips", len(clip_targets)) as (clip_done, tile_done):
            return restore_clips(
                net, clip_targets, clip_options, chosen, overwrite=overwrite, clip_done=clip_done, tile_done=tile_done
            )
    targets = naming() if targets is None else targets
    _refuse_for_images(codec=codec, rate=rate, noise_level=noise_level)
    _check_quality(quality, targets.suffixes)
    with _progress_bars("images", len(targets)) as (image_done, tile_done):
        if isinstance(net, OutOfCore):
            # Blocks of the one tile that the image is.
            net.progress, tile_done = tile_done, lambda *_: None
        return restore_each(
            net,
            targets,
            options,
            FileOptions(quality, exif),
            chosen,
            output=output,
            share=part,
            overwrite=overwrite,
            image_done=image_done,
            tile_done=tile_done,
        )


def _refuse_for_images(**options: object) -> None:
    """Refuse options of clips and their networks where there are none; those that are None are not given."""
    for name, value in options.items():
        if value is not None:
            raise ValueError(f"{name} ({value}) must be left out for images; it is an option of clips")


def _load_graph(path: Path, chosen: torch.device, device: str, precision: str, given: dict[str, Any]) -> GraphNetwork:
    """Load an exported graph, which is as it is and runs on the processor.

    Raises:
        ValueError: if an option asks for something else.
    """
    for name, value in given.items():
        if value is not None:
            raise ValueError(
                f"{name} ({value}) must be null with an exported graph ({path}): it is chosen at its export"
            )
    if precision != "float32":
        raise ValueError(f"precision ({precision}) must be float32 with an exported graph ({path}), which has its own")
    if chosen.type != "cpu" and device != "auto":
        raise ValueError(f"device ({device}) must be auto or cpu with an exported graph ({path})")
    return load_graph(path)


def _check_quality(quality: int | None, suffixes: set[str]) -> None:
    if quality is None:
        return
    if not 1 <= quality <= 100:
        raise ValueError(f"quality ({quality}) must lie in [1, 100]; 95 is usual")
    if not suffixes & set(LOSSY_SUFFIXES):
        raise ValueError(f"quality ({quality}) must have a result in JPEG or WebP, got none; add --format jpg")


@contextmanager
def _progress_bars(what: str, number: int) -> Iterator[tuple[Callable[[], None], Callable[[int, int], None]]]:
    """Show one bar of images or clips and one of the current one's tiles; give the functions that advance them."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True, markup=False, emoji=False)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        whole = progress.add_task(what, total=number)
        tiles = progress.add_task("tiles", total=None)
        yield (
            lambda: progress.advance(whole),
            lambda done, total: progress.update(tiles, completed=done, total=total),
        )
