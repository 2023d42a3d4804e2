"""Geometry of the windows of a feature map: their kinds, with bias and mask between any positions.

A window of h×w tokens is a sequence of N = h·w tokens, row by row; the windows of a batch follow each other image by
image, row by row: features (B, H, W, C) become (B·R·S, N, C) with R×S windows an image. Positions are (row, column) in
tokens, within the window; they may be fractional, as those of landmarks are.

Windows may have any number of axes. Those of films reach over t frames: (t, h, w), with positions (frame, row, column).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from glmha.shared.graphs import is_recorded
from nystra.functional import differentiated
from nystra.windows.position_bias import BiasState, DenseBias, OffsetBias, PositionBias

Result = TypeVar("Result")
# Added between tokens that a shifted window brings together from opposite edges of the image: upstream's value.
MASKED = -100.0
# In bytes. Tables of exact attention grow as N²: those of all sites with windows of 64×64 tokens would fill the memory.
# Making them anew costs little beside the products of so many tokens.
LARGEST_KEPT = 64 * 2**20


@dataclasses.dataclass(frozen=True)
class WindowKind:
    """Windows that have the same bias and mask: all of them, or those at one edge of a shifted feature map.

    Attributes:
        window: its sides, h and w, in tokens.
        split: along each axis, the first row and the first column whose tokens come from the image's opposite edge;
            None where none do.
        bias: of the site; None: none.
        device: on which positions and bias are made.

    Examples:
        >>> import torch
        >>> from nystra.windows import WindowKind
        >>> kind = WindowKind((2, 2), split=(None, 1), bias=None, device=torch.device("cpu"))
        >>> kind.all_logits()[0].tolist()[0]
        [0.0, -100.0, 0.0, -100.0]
    """

    window: tuple[int, ...]
    split: tuple[int | None, ...]
    bias: PositionBias | None
    device: torch.device

    @property
    def has_bias(self) -> bool:
        """Whether any pair of tokens has a bias or is masked."""
        return self.bias is not None or bool(self.split_axes)

    def positions(self) -> Tensor:
        """Positions of the tokens, shape (N, axes), float32."""
        axes = [torch.arange(side, dtype=torch.float32, device=self.device) for side in self.window]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, -2)

    def logits(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Bias and mask between positions, to be added to scaled dot products.

        Args:
            queries: positions, shape (n, axes).
            keys: positions, shape (m, axes).

        Returns:
            Shape (heads, n, m), or (1, n, m) if there is a mask only; the bias' dtype, else float32.
        """
        if self.bias is None:
            result = torch.zeros(1, len(queries), len(keys), dtype=torch.float32, device=self.device)
        else:
            result = self.bias.between(queries, keys)
        return self._masked(result, queries, keys)

    def token_logits(self, queries: Tensor, keys: Tensor, offset_logits: Tensor | None) -> Tensor:
        """Bias and mask between tokens, as `logits` of their positions: (heads or 1, n, m).

        An offset's bias is computed once and laid out where it belongs, not computed for each pair of tokens.

        Args:
            queries: positions of tokens, shape (n, axes).
            keys: positions of tokens, shape (m, axes).
            offset_logits: what the method of that name gives.
        """
        if offset_logits is None:
            return self.logits(queries, keys)
        # The number of an offset is a difference of numbers of tokens: no pair needs its offsets along all axes.
        numbers, lowest = [0 * tokens[:, 0].long() for tokens in (queries, keys)], 0
        for axis, side in enumerate(self.window):
            numbers = [
                (2 * side - 1) * number + tokens[:, axis].long()
                for number, tokens in zip(numbers, (queries, keys), strict=True)
            ]
            lowest = (2 * side - 1) * lowest + side - 1
        bias = offset_logits.flatten(1)[:, numbers[0].unsqueeze(1) - numbers[1] + lowest]
        return self._masked(bias, queries, keys)

    def all_logits(self) -> Tensor:
        """Bias and mask between all tokens: (heads or 1, N, N), contiguous."""
        positions = self.positions()
        return self.token_logits(positions, positions, self.offset_logits())

    def offset_logits(self) -> Tensor | None:
        """Bias of all offsets from key to query, (heads, 2h - 1, 2w - 1) in an image, the lowest first.

        None: there is no bias, or it depends on more than the offset.
        """
        if not isinstance(self.bias, OffsetBias):
            return None
        axes = [torch.arange(1 - side, side, dtype=torch.float32, device=self.device) for side in self.window]
        return self.bias.at(torch.stack(torch.meshgrid(*axes, indexing="ij"), -1))

    def _masked(self, logits: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
        if not self.split_axes:
            return logits
        apart = torch.zeros(len(queries), len(keys), dtype=torch.bool, device=self.device)
        for axis in self.split_axes:
            apart = apart | (self.regions(queries, axis).unsqueeze(1) != self.regions(keys, axis))
        return logits + MASKED * apart.to(logits.dtype)

    @property
    def split_axes(self) -> list[int]:
        """Axes along which tokens come from opposite edges of the image."""
        return [axis for axis, split in enumerate(self.split) if split is not None]

    def regions(self, positions: Tensor, axis: int) -> Tensor:
        """Whether positions (n, axes) lie beyond the border along one of `split_axes`: booleans, (n,)."""
        # Token `split` is the first beyond the border; a fractional position belongs to the nearer side.
        return positions[:, axis] > (self.split[axis] or 0) - 0.5


class ExtraTokens(NamedTuple):
    """Tokens of a sequence that stand beside the map: class tokens, registers, tokens of time or of text.

    Attributes:
        before: their number before the map's tokens.
        after: their number behind the map's tokens.
        bias: of all queries to all keys of the sequence, in its order, (heads or 1, T, T); None: none.
    """

    before: int
    after: int
    bias: Tensor | None = None


class WindowGeometry:
    """All windows of a batch of feature maps: their kinds, with bias and mask, and tables computed once of them.

    Args:
        window: sides of a window, h and w, in tokens.
        grid: windows of a feature map along each axis, rows and columns; empty: one.
        shift: tokens by which the feature map was rolled (up, left) before it was cut; 0 along an axis: it was not.
            Empty: along none.
        bias: the site's position bias; None: none.
        tables: dictionary in which kernels keep what they compute once for a kind of window; that of the site, so that
            it lives as long as the site. None: nothing is kept.
        extra: tokens that each window has beside its h×w; only where maps are not rolled. None: there are none.
        frozen: tables by `WindowKind.split` that hold whatever the bias is now; a kind that is not there has its table
            made. None: there are none.

    Raises:
        ValueError: if windows of rolled maps are to have further tokens.

    Examples:
        Four windows whose feature map was rolled by half a window: inner ones, and those that hold opposite edges.

        >>> import torch
        >>> from nystra import WindowGeometry
        >>> geometry = WindowGeometry((4, 4), grid=(2, 2), shift=(2, 2))
        >>> [kind.split for _, kind in geometry.kinds(torch.device("cpu"))]
        [(None, None), (None, 2), (2, None), (2, 2)]
    """

    def __init__(
        self,
        window: tuple[int, ...],
        grid: tuple[int, ...] = (),
        shift: tuple[int, ...] = (),
        bias: PositionBias | None = None,
        tables: dict[Any, Any] | None = None,
        extra: ExtraTokens | None = None,
        frozen: Mapping[tuple[int | None, ...], Any] | None = None,
    ) -> None:
        if extra is not None and any(shift):
            raise ValueError(f"shift ({shift}) must be (0, 0) where windows have tokens beside their map ({extra[:2]})")
        self.window = window
        self.grid = grid or (1,) * len(window)
        self.shift = shift or (0,) * len(window)
        self.bias = bias
        self.extra = extra
        self._tables = tables
        self._runs = [_runs(*axis) for axis in zip(self.window, self.grid, self.shift, strict=True)]
        self._frozen = frozen

    @property
    def maps(self) -> WindowGeometry:
        """The windows without the tokens beside their maps."""
        return WindowGeometry(self.window, self.grid, self.shift, self.bias, self._tables, frozen=self._frozen)

    def of_maps(self, tokens: Tensor) -> Tensor:
        """The tokens of the maps among those of the windows, (W, h, T, d): (W, h, N, d)."""
        before, after, _ = self.extra or ExtraTokens(0, 0)
        return tokens[:, :, before : tokens.shape[2] - after]

    @property
    def sequences(self) -> WindowGeometry:
        """The windows with the tokens beside their maps, as single rows of tokens."""
        before, after, dense = self.extra or ExtraTokens(0, 0)
        row = (*(1,) * (len(self.window) - 1), before + math.prod(self.window) + after)
        return WindowGeometry(
            row, self.grid, bias=None if dense is None else DenseBias(dense, row), tables=self._tables
        )

    def kinds(self, device: torch.device) -> Iterator[tuple[tuple[slice, ...], WindowKind]]:
        """Yield rows and columns of the grid, and the kind of the windows there; together they are all windows.

        Where a feature map was rolled, the windows of its last row (column) hold tokens of its opposite edges.
        """
        for runs in product(*self._runs):
            places, split = zip(*runs, strict=True)
            yield places, WindowKind(self.window, split, self.bias, device)

    def by_kinds(self, function: Callable[..., Tensor], *windows: Tensor) -> Tensor:
        """Apply a function to the windows of each kind and put the results side by side, without numbers of windows.

        Args:
            function: maps a kind and tensors (W, ...) of its windows to one tensor (W, ...).
            *windows: shape (B, *grid, ...).

        Returns:
            Shape (B, *grid, ...).
        """
        cuts = [
            [(slice(None), side)] if count == 1 else [(slice(-1), side - 1), (slice(-1, None), 1)]
            for count, side in zip(self.kind_counts, self.grid, strict=True)
        ]
        kinds = [kind for _, kind in self.kinds(windows[0].device)]
        results = []
        # Without this number, or of parts that are not contiguous, `torch.export` takes one image for another case.
        # The exporter to ONNX takes the number for -1.
        images = windows[0].shape[0] if torch.compiler.is_exporting() else -1
        for number, runs in enumerate(product(*cuts)):
            which = (slice(None), *(place for place, _ in runs))
            parts = [tensor[which].contiguous().flatten(0, len(cuts)) for tensor in windows]
            results.append(function(kinds[number], *parts).unflatten(0, (images, *(side for _, side in runs))))
        for axis, cut in reversed(list(enumerate(cuts, 1))):
            results = [torch.cat(results[i : i + len(cut)], axis) for i in range(0, len(results), len(cut))]
        return results[0]

    @property
    def splits(self) -> tuple[int | None, ...]:
        """First row and first column of the last windows whose tokens come from the opposite edge; None: none do."""
        return tuple([runs[-1][1] for runs in self._runs])

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """Tensors from which the bias is computed; none without bias."""
        return () if self.bias is None else self.bias.parameters()

    @property
    def kind_counts(self) -> tuple[int, ...]:
        """Kinds of windows along each axis, which `kinds` combines: 2 where the last windows differ from the rest."""
        return tuple([len(runs) for runs in self._runs])

    def table(self, key: Any, kind: WindowKind, dtype: torch.dtype, make: Callable[[], Result]) -> Result:
        """Give the result of `make` for a kind of window; keep it until the bias changes, if no gradient must reach it.

        A single tensor of more than `LARGEST_KEPT` bytes is not kept.

        Args:
            key: name of the result, hashable (the kernel).
            kind: of the windows.
            dtype: of the result.
            make: computes the result.
        """
        if self._frozen is not None and kind.split in self._frozen:
            return self._frozen[kind.split]
        if self._tables is None or differentiated(self.parameters) or not _may_compare():
            return make()
        place = (key, kind.window, kind.split, str(kind.device), dtype)
        kept = self._tables.get(place)
        if kept is not None and kind.device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            # What is recorded stays as it is, the tables also: those of the calls that have to come before.
            return kept[1]
        # A tensor that was made in inference mode could not be used in training, to which it may be kept.
        with torch.inference_mode(mode=False), torch.no_grad():
            try:
                if kept is not None and kept[0].is_of(self.bias):
                    return kept[1]
                state = BiasState(self.bias)
            except RuntimeError:
                # Parameters without values: those of many networks at once, or on the meta device.
                return make()
            # The state is that of before: parameters that are written meanwhile are another one.
            kept = (state, make())
        if not isinstance(kept[1], Tensor) or kept[1].nbytes <= LARGEST_KEPT:
            self._tables[place] = kept
        return kept[1]


def _may_compare() -> bool:
    """Whether values may decide what is computed: not where operations are traced."""
    return not (torch.compiler.is_compiling() or is_recorded())


def _runs(window: int, count: int, shift: int) -> list[tuple[slice, int | None]]:
    """Windows along an axis that are alike: which of the grid, and the first token from the opposite edge."""
    if not shift:
        return [(slice(None), None)]
    last = (slice(count - 1, count), window - shift)
    return [(slice(0, count - 1), None), last] if count > 1 else [last]
