"""A degraded image's clean one, found by name."""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from datamodules.errors import refuse
from datamodules.files.images import list_images

# Rain100H and Rain100L were released as rain-001.png beside norain-001.png.
_KNOWN_PREFIXES = ("norain-", "rain-")


@dataclass(frozen=True)
class Pairs:
    """Files of one set, matched.

    Attributes:
        inputs: degraded images.
        targets: the clean image of each.
        names: a unique name for each pair, fit for a file name.
    """

    inputs: tuple[Path, ...]
    targets: tuple[Path, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True)
class Affixes:
    """Parts of file names that a pair does not share, in front of and behind the part that it shares.

    Attributes:
        input_prefix: in front of an input's name.
        input_suffix: behind an input's name, before the file's ending.
        target_prefix: in front of a target's name.
        target_suffix: behind a target's name, such as `_clean` of `1_clean.png` for the input `1.png`.
    """

    input_prefix: str = ""
    input_suffix: str = ""
    target_prefix: str = ""
    target_suffix: str = ""


def select(pairs: Pairs, indices: Iterable[int]) -> Pairs:
    """Take some of the pairs, in the given order."""
    chosen = list(indices)
    return replace(
        pairs,
        inputs=tuple(pairs.inputs[i] for i in chosen),
        targets=tuple(pairs.targets[i] for i in chosen),
        names=tuple(pairs.names[i] for i in chosen),
    )


def spread(pairs: Pairs, count: int) -> Pairs:
    """Take at most `count` of the pairs, evenly spaced, the first one too."""
    count = min(count, len(pairs))
    return select(pairs, [index * len(pairs) // count for index in range(count)])


def pair_folders(
    inputs: str | Path,
    targets: str | Path,
    *,
    scale: int = 1,
    affixes: Affixes | None = None,
    input_argument: str = "inputs",
    target_argument: str = "targets",
) -> Pairs:
    """Match the images of two folders by their names without suffix.

    Equal names are a pair. Others need not be equal where a data set's convention is known: `rain-`, `norain-` in front
    (Rain100), and `x2`, `x3`, … behind an input's name for a target of that scale. Other parts are given as `affixes`;
    where some would make all names match, the error message names them. Order alone never makes a pair.

    Args:
        inputs: folder of degraded images.
        targets: folder of clean images.
        scale: size of a target relative to its input.
        affixes: parts of names that their pairs have not; None: none.
        input_argument: name of the option that gives the first folder, for error messages.
        target_argument: name of the option that gives the second folder.

    Returns:
        The pairs, sorted by the input's file name.

    Raises:
        DataError: if a folder is missing or empty, or an image has no counterpart or several.
    """
    affix = Affixes() if affixes is None else affixes
    degraded = _by_key(list_images(inputs, input_argument), input_argument, affix.input_prefix, affix.input_suffix)
    clean = _by_key(list_images(targets, target_argument), target_argument, affix.target_prefix, affix.target_suffix)
    # A convention is looked for only in names that have no equal: "matrix2" is whole where its target has that name.
    equal = degraded.keys() & clean.keys()
    degraded = _without_conventions(degraded, equal, input_argument, scale)
    clean = _without_conventions(clean, equal, target_argument, 1)
    remedy = "add the missing files or remove these"
    if not degraded.keys() & clean.keys() and (found := _find_affixes(list(degraded), list(clean))):
        remedy = f"names would match with {found}"
    alone = [degraded.pop(key) for key in sorted(degraded.keys() - clean.keys())]
    unasked = [clean[key] for key in sorted(clean.keys() - degraded.keys())]
    if alone or unasked:
        refuse(
            f"{input_argument} ({inputs}) must match {target_argument} ({targets}) name by name, got "
            f"{len(degraded) + len(alone)} and {len(clean)} images, {len(alone + unasked)} without counterpart: "
            f"{listed(alone + unasked)}; {remedy}",
            [
                f"image {path} must have a counterpart in {folder}, got none; add the missing file or remove this one"
                for paths, folder in ((alone, targets), (unasked, inputs))
                for path in paths
            ],
        )
    keys = sorted(degraded, key=lambda key: degraded[key])
    files = tuple(degraded[key] for key in keys)
    return Pairs(files, tuple(clean[key] for key in keys), tuple(path.stem for path in files))


def _by_key(files: Iterable[Path], argument: str, prefix: str, suffix: str) -> dict[str, Path]:
    """Images by their names without the affixes that their pairs have not."""
    keyed: dict[str, Path] = {}
    for path in files:
        _put(keyed, path.stem.removesuffix(suffix).removeprefix(prefix), path, argument)
    return keyed


def _without_conventions(images: Mapping[str, Path], equal: Set[str], argument: str, scale: int) -> dict[str, Path]:
    """Leave out of the names that have no equal what data sets put around them."""
    keyed = {key: path for key, path in images.items() if key in equal}
    for key, path in images.items():
        if key not in equal:
            short = key.removesuffix(f"x{scale}" if scale > 1 else "")
            for front in _KNOWN_PREFIXES:
                short = short.removeprefix(front)
            _put(keyed, short, path, argument)
    return keyed


def _put(keyed: dict[str, Path], key: str, path: Path, argument: str) -> None:
    if key in keyed:
        refuse(
            f"{argument} ({path.parent}) must name each image once, got {keyed[key].name} and {path.name}; "
            "remove one of them"
        )
    keyed[key] = path


def _find_affixes(inputs: Sequence[str], targets: Sequence[str]) -> str | None:
    """Options that would make all names match, of what all names of a folder share; None if there are none."""
    # A single name shares all of itself, which would match anything.
    if len(inputs) != len(targets) or len(inputs) < 2:
        return None
    for fronts, backs in product((False, True), (True, False)):
        chosen: list[str] = []
        keys = []
        for kind, names in (("input", inputs), ("target", targets)):
            front = _shared(names) if fronts else ""
            back = _shared([name[::-1] for name in names])[::-1] if backs else ""
            keys.append({name.removeprefix(front).removesuffix(back) for name in names})
            chosen += [f"--data.{kind}_prefix={front}"] * bool(front) + [f"--data.{kind}_suffix={back}"] * bool(back)
        if keys[0] == keys[1] and len(keys[0]) == len(inputs):
            return " ".join(chosen)
    return None


def _shared(names: Sequence[str]) -> str:
    """The beginning that all names share, up to its last separator."""
    first = names[0]
    beginnings = [first[:end] for end in range(len(first), 0, -1) if first[end - 1] in "_-. "]
    return next((text for text in beginnings if all(name.startswith(text) for name in names)), "")


def listed(items: Sequence[object]) -> str:
    """The first five items, sorted, for a message."""
    shown = ", ".join(str(item) for item in sorted(map(str, items))[:5])
    return shown + (", …" if len(items) > 5 else "")
