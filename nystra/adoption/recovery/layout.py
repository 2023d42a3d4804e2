"""How the tokens of a product lie: a map, and tokens beside it; and what tells it where no bias does."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from torch import Tensor, nn

Window = tuple[int, int]
# Names under which modules of the field keep the sides of their windows.
SIDES = ("window_size", "window", "ws", "split_size", "partition_size", "win_size", "block_size", "grid_size")
# Maps that are remembered of a module, by their number of tokens.
MOST_MAPS = 16


class Layout(NamedTuple):
    """Tokens of a sequence: those of a map, row by row, and others before and behind it.

    Attributes:
        window: h and w of the map.
        before: number of tokens before it.
        after: number of tokens behind it.
    """

    window: Window
    before: int = 0
    after: int = 0

    @property
    def tokens(self) -> int:
        """Number of all tokens."""
        return self.before + math.prod(self.window) + self.after

    @property
    def extra(self) -> tuple[int, int]:
        """Numbers of tokens before and behind the map."""
        return self.before, self.after

    def __str__(self) -> str:
        """Sides of the map, and the number of further tokens."""
        sides = f"{self.window[0]}×{self.window[1]}"
        return f"{sides} + {sum(self.extra)}" if any(self.extra) else sides


def square(tokens: int) -> Window | None:
    """Sides of the square of a number of tokens; None: there is none."""
    side = math.isqrt(tokens)
    return (side, side) if side**2 == tokens else None


def given_layout(window: Window, tokens: int, parts: Parts | None) -> Layout | None:
    """The layout of a sequence by the window that a user gave; None: it does not fit the tokens.

    Args:
        window: h and w.
        tokens: number of all tokens; up to a quarter more than the window's are taken for tokens before the map.
        parts: of the sequence, which tell which of the further tokens are before the map; None: unknown.
    """
    inside = math.prod(window)
    if parts is not None and parts.inside == inside:
        return Layout(window, parts.before, parts.after)
    return Layout(window, tokens - inside) if 0 <= tokens - inside <= inside // 4 else None


def told_window(arguments: tuple[Any, ...], tokens: int) -> Window | None:
    """The height and width of a map of a number of tokens that arguments of a call tell; None: none does."""
    whole = [each for each in arguments if isinstance(each, int) and not isinstance(each, bool)]
    pairs = [(whole[place], whole[place + 1]) for place in range(len(whole) - 1)]
    for each in arguments:
        if isinstance(each, Tensor) and each.dim() == 4:
            pairs += _sides(each)[::-1]
        elif isinstance(each, tuple | list) and len(each) == 2 and all(isinstance(side, int) for side in each):
            pairs.append((each[0], each[1]))
    return next((pair for pair in pairs if pair[0] * pair[1] == tokens and min(pair) > 1), None)


def _sides(maps: Tensor) -> list[Window]:
    """Height and width of maps (B, H, W, C) or (B, C, H, W), whichever they are; the latter is the more frequent."""
    return [(maps.shape[1], maps.shape[2]), (maps.shape[2], maps.shape[3])]


def kept_window(module: nn.Module, parents: list[nn.Module], tokens: int) -> Window | None:
    """The window of a number of tokens that attributes of a module or of those around it tell; None: none does."""
    for each in (module, *parents[::-1][:2]):
        names = vars(each)
        rows, columns = names.get("H_sp"), names.get("W_sp")
        if isinstance(rows, int) and isinstance(columns, int) and rows * columns == tokens:
            return rows, columns
        for name in SIDES:
            size = names.get(name)
            if isinstance(size, int) and size * size == tokens:
                return size, size
            if isinstance(size, tuple | list) and len(size) == 2 and size[0] * size[1] == tokens:
                return int(size[0]), int(size[1])
    return None


class Parts(NamedTuple):
    """What a sequence is put together of.

    Attributes:
        before: number of tokens before those of a map.
        inside: number of tokens of the map.
        after: number of tokens behind those.
        images: number of sequences in the batch.
    """

    before: int
    inside: int
    after: int
    images: int


class Maps:
    """The sides of the maps that go into a module, or come out of it, as forward hooks see them.

    The tokens of whole maps, one sequence for each image, do not tell height and width themselves.
    """

    def __init__(self) -> None:
        self._noted: dict[tuple[int, int], Window] = {}

    def of(self, tokens: int, lead: tuple[int, ...]) -> Window | None:
        """Height and width of the last maps of a number of tokens; None: there were none.

        Args:
            tokens: of a map.
            lead: leading sides of the product, which must be of as many images.
        """
        fitting = [sides for (count, images), sides in self._noted.items() if count == tokens and _of(images, lead)]
        return fitting[-1] if fitting else None

    def before(self, _: nn.Module, arguments: tuple[Any, ...]) -> None:
        """Note the maps that go into a module: a forward pre-hook."""
        for each in arguments:
            self._note(each)

    def after(self, _: nn.Module | None, __: tuple[Any, ...], result: Any) -> None:
        """Note the maps that come out of a module: a forward hook."""
        self._note(result)

    def _note(self, maps: Any) -> None:
        if not isinstance(maps, Tensor) or maps.dim() != 4:
            return
        for sides in _sides(maps):
            if min(sides) > 1:
                place = math.prod(sides), len(maps)
                # Moved behind all others.
                self._noted.pop(place, None)
                self._noted[place] = sides
        while len(self._noted) > MOST_MAPS:
            self._noted.pop(next(iter(self._noted)))


class Sequences:
    """Sequences that a network put together of a map's tokens and others."""

    def __init__(self) -> None:
        self._noted: dict[int, Parts] = {}

    def of(self, tokens: int, lead: tuple[int, ...]) -> Parts | None:
        """Parts of a sequence of a number of tokens, in a product of some leading sides; None: none is known."""
        parts = self._noted.get(tokens)
        return parts if parts is not None and _of(parts.images, lead) else None

    def note(self, counts: list[int], images: int, are_maps: list[bool]) -> None:
        """Note that parts of some numbers of tokens became one sequence.

        The map is, or is in, the longest part that is known to be one, with at least half of all tokens.

        Args:
            counts: numbers of tokens of the parts.
            images: number of sequences.
            are_maps: which parts may be the tokens of a map.
        """
        total = sum(counts)
        places = [
            place
            for place, count in enumerate(counts)
            if 2 * count >= total > count and (are_maps[place] or count in self._noted)
        ]
        if not places:
            return
        place = max(places, key=lambda each: counts[each])
        count = counts[place]
        inner = Parts(0, count, 0, images) if are_maps[place] else self._noted[count]
        self._noted[total] = Parts(
            sum(counts[:place]) + inner.before, inner.inside, inner.after + sum(counts[place + 1 :]), images
        )


def _of(images: int, lead: tuple[int, ...]) -> bool:
    """Whether leading sides of a product are of a number of images, one sequence each."""
    return lead[0] == images or (len(lead) == 1 and lead[0] % images == 0)
