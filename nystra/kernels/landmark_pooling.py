"""Landmark-centred pooling: window attention of linear cost without an inverse matrix."""

import dataclasses
import functools
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from glmha.shared.precision import at_least_float32
from nystra.functional import add
from nystra.kernels.base import Cost, Kernel
from nystra.programs.cpu import landmark_pooling as native
from nystra.programs.cpu.library import usable
from nystra.programs.pooling_plan import Plan
from nystra.windows.cells import Cells
from nystra.windows.geometry import WindowGeometry, WindowKind
from nystra.windows.partition import Cut

# Pairs of tokens, in all heads, whose bias is laid out at a time.
MOST_PAIRS = 2**22


@dataclasses.dataclass(frozen=True)
class LandmarkPooling(Kernel):
    """Landmark-centred pooling: far cells as summaries made for the query's neighbourhood, near tokens exactly.

    A window of 8×8 tokens with `landmarks=4` blocks (double lines) of four cells each, `cells=16` (single lines)::

        ╔═════╤═════╦═════╤═════╗    q    a query; its landmark q̄ is the mean of the 16 queries of its block
        ║ · · │ x x ║ · · │ · · ║    o    the other tokens of its cell
        ║ · · │ x x ║ · · │ · · ║    x    the tokens of the four neighbouring cells, also of other blocks
        ╟─────┼─────╫─────┼─────╢    ·    tokens of other cells: of each cell, q sees one summary (k̃, ṽ, M)
        ║ x x │ q o ║ x x │ · · ║
        ║ x x │ o o ║ x x │ · · ║    near      q attends exactly to       and to summaries of
        ╠═════╪═════╬═════╪═════╣    "none"    no token                   16 cells
        ║ · · │ x x ║ · · │ · · ║    "own"     q, o: 4 tokens             15 cells
        ║ · · │ x x ║ · · │ · · ║    "cross"   q, o, x: 20 tokens         11 cells
        ╟─────┼─────╫─────┼─────╢    "block"   its block: 16 tokens       12 cells
        ║ · · │ · · ║ · · │ · · ║
        ║ · · │ · · ║ · · │ · · ║
        ╚═════╧═════╩═════╧═════╝

    The landmark q̄ weighs the keys of a cell into one key k̃, one value ṽ and a mass M. A query q of the block sees
    the summary with the logit q·k̃ + (M - q̄·k̃) + Δ. It is exact at q = q̄ but for Δ, the static difference between
    the bias of the token and that of the block. Summaries and exact tokens share one softmax.

    A summary could not keep apart what a mask separates. So a block on the border of a shifted window attends exactly
    to the cells on that border. There is no inverse and no constant to tune: weights are positive, so that every output
    is a convex combination of values and finite for every input.

    Args:
        landmarks: m, blocks of queries, >= 1.
        cells: s, cells of keys; a multiple of m.
        near: tokens that are attended exactly: "none", "own" (the query's cell), "cross" (that cell and its four
            neighbours; six in a window over frames) or "block" (the query's block).

    Where they do not divide a window into equal blocks and cells, these differ by a row or a column, and their numbers
    are near to those wanted: `fitted` tells them. As many cells as tokens are exact attention.

    Raises:
        ValueError: if a number is below 1, `cells` is no multiple of `landmarks` or `near` is unknown.

    Examples:
        >>> import torch
        >>> from nystra import LandmarkPooling, Softmax, WindowGeometry
        >>> kernel = LandmarkPooling(landmarks=4, cells=16, near="cross")
        >>> query, key, value = torch.rand(3, 1, 2, 64, 8)
        >>> kernel(query, key, value, WindowGeometry((8, 8))).shape
        torch.Size([1, 2, 64, 8])
        >>> round(Softmax().cost((32, 32), 30).macs / kernel.cost((32, 32), 30).macs, 1)
        3.7
    """

    landmarks: int = 16
    cells: int = 16
    near: Literal["none", "own", "cross", "block"] = "cross"

    def __post_init__(self) -> None:
        """Refuse numbers that fit no window."""
        if self.landmarks < 1 or self.cells < 1 or self.cells % self.landmarks:
            raise ValueError(
                f"cells ({self.cells}) must be a positive multiple of landmarks ({self.landmarks}): cells lie in blocks"
            )
        if self.near not in ("none", "own", "cross", "block"):
            raise ValueError(f"near ({self.near}) must be none, own, cross or block")

    def fitted(self, window: tuple[int, ...]) -> "LandmarkPooling":
        """See base class."""
        layout = self.layout(window)
        return dataclasses.replace(self, landmarks=layout.num_blocks, cells=layout.num_cells)

    def layout(self, window: tuple[int, ...]) -> Cells:
        """Blocks and cells of a window."""
        return Cells.nearest(window, self.landmarks, self.cells)

    def cost(self, window: tuple[int, ...], channels: int) -> Cost:
        """Cost without bias: 3md + 2dT, T the mean number of summaries and exact keys that a token sees."""
        layout = self.layout(window)
        sizes, near = layout.sizes(), self._near(layout)
        own = len(sizes) // len(near)
        seen, most = 0, 0
        for number, cells in enumerate(near):
            keys = layout.num_cells - len(cells) + sum(sizes[cell] for cell in cells)
            seen += keys * sum(sizes[number * own : (number + 1) * own])
            most = max(most, keys + len(cells))
        tokens = sum(sizes)
        return Cost(3 * layout.num_blocks * channels + 2 * channels * seen / tokens, tokens * most)

    def tables(self, kind: WindowKind, dtype: torch.dtype) -> "PoolingTables":
        """Mean bias β of blocks to keys, shift Δ of tokens to summaries, bias of near tokens."""
        layout = self.layout(kind.window)
        blocks, cells = layout.num_blocks, layout.num_cells
        positions = layout.order(kind.positions())
        near = self.near_cells(kind)
        most = max(map(len, near))
        numbers = torch.tensor(
            [group + [-1] * (most - len(group)) for group in near], dtype=torch.long, device=kind.device
        )
        seen = (numbers.unsqueeze(2) == torch.arange(cells, device=kind.device)).any(1)
        offsets = kind.offset_logits()
        size, groups = len(positions) // blocks, len(near) // blocks
        # In pieces of whole blocks: N×N values of all heads would not fit for large windows.
        step = max(1, MOST_PAIRS // (size * len(positions) * (1 if offsets is None else len(offsets))))
        repeats = layout.repeats(kind.device)
        counted = (~repeats).float().unflatten(0, (blocks, size, 1))
        means, biases = [], []
        for first in range(0, blocks, step):
            tokens = positions[first * size : (first + step) * size]
            bias = at_least_float32(kind.token_logits(tokens, positions, offsets)).unflatten(1, (-1, size))
            weights = counted[first : first + step]
            mean = ((bias * weights).sum(2) / weights.sum(1)).masked_fill(repeats, -torch.inf)
            by_cell = bias.masked_fill(repeats, -torch.inf).unflatten(3, (cells, -1))
            shift = by_cell.logsumexp(4) - mean.unflatten(2, (cells, -1)).logsumexp(3).unsqueeze(2)
            # Of the groups of tokens that see the same cells exactly, which are parts of blocks.
            members = slice(first * groups, (first + step) * groups)
            shift, by_cell = (part.flatten(1, 2).unflatten(1, (-1, size // groups)) for part in (shift, by_cell))
            far = shift.masked_fill(seen[members].unsqueeze(1), -torch.inf)
            which = numbers[members]
            exact = by_cell[:, torch.arange(len(which), device=kind.device).unsqueeze(1), :, which.clamp_min(0)]
            exact = exact.permute(2, 0, 3, 1, 4).masked_fill((which < 0)[:, None, :, None], -torch.inf)
            means.append(mean)
            biases.append(torch.cat([far, exact.flatten(3)], 3))
        wide = torch.promote_types(dtype, torch.float32)
        mean_table, bias_table = torch.cat(means, 1), torch.cat(biases, 1)
        if not kind.has_bias:
            # Without bias only minus infinity matters: the rest are rounding errors of sums of equal exponentials.
            bias_table = torch.where(bias_table == -torch.inf, bias_table, 0.0)
        weighs = kind.has_bias or not layout.even
        return PoolingTables(
            layout,
            mean_table.unflatten(2, (cells, -1)).transpose(1, 2).to(wide).contiguous() if weighs else None,
            bias_table.to(wide).contiguous(),
            numbers,
            [cell for group in near for cell in group] == list(range(cells)),
        )

    def near_cells(self, kind: WindowKind) -> list[list[int]]:
        """Find the cells that each group of tokens sees exactly in a kind of window; groups divide blocks.

        Blocks on the border of a shifted window see the cells on it: summaries of these would mix what the mask keeps
        apart. A block on one side masks the tokens on the other; the mean query of a block on both sides cannot.
        """
        layout = self.layout(kind.window)
        near = self._near(layout)
        for axis in kind.split_axes:
            blocks, cells = layout.cut(axis, kind.split[axis] or 0)
            on_border = {cell for cell, cut in enumerate(cells) if cut}
            near = [
                sorted(on_border.union(group)) if blocks[number * len(blocks) // len(near)] else group
                for number, group in enumerate(near)
            ]
        return near

    def _near(self, layout: Cells) -> list[list[int]]:
        """Numbers of the cells that each group of tokens sees exactly where there is no border."""
        blocks, cells = layout.num_blocks, layout.num_cells
        if self.near == "cross":
            return layout.neighbours()
        groups = {"own": cells, "block": blocks, "none": blocks}[self.near]
        size = 0 if self.near == "none" else cells // groups
        return [list(range(group * size, (group + 1) * size)) for group in range(groups)]

    def attend_natively(
        self, query: Tensor, key: Tensor, value: Tensor, geometry: WindowGeometry, cut: Cut
    ) -> Tensor | None:
        """Attend by the program over maps (B, H, W, h, d); None where there is no program for them."""
        return self._run_program(query, key, value, geometry, cut, masses=False)

    def masses_natively(
        self, query: Tensor, key: Tensor, value: Tensor, geometry: WindowGeometry, cut: Cut
    ) -> Tensor | None:
        """See base class."""
        return self._run_program(query, key, value, geometry, cut, masses=True)

    def _run_program(
        self, query: Tensor, key: Tensor, value: Tensor, geometry: WindowGeometry, cut: Cut, *, masses: bool
    ) -> Tensor | None:
        library = usable(query, key, value, parameters=geometry.parameters)
        if library is None:
            return None
        plans = [
            geometry.table(
                (self, library.tile),
                kind,
                query.dtype,
                functools.partial(self._plan, kind, library.tile, biased=kind.has_bias),
            )
            for _, kind in geometry.kinds(query.device)
        ]
        return native.attend(query, key, value, plans, self.layout(geometry.window), geometry, cut, masses=masses)

    def _plan(self, kind: WindowKind, tile: int, *, biased: bool) -> Plan:
        """Lay out the tables of a kind for programs that attend so many queries together, with a bias or without."""
        layout, mean, bias, *_ = self.tables(kind, torch.float32)
        if biased and mean is None:
            mean = bias.new_zeros(1, layout.num_cells, layout.num_blocks, layout.num_ordered // layout.num_cells)
        return Plan.of(layout, self.near_cells(kind), mean if biased else None, bias, tile)

    def attend_on_gpu(self, query: Tensor, key: Tensor, value: Tensor, geometry: WindowGeometry, cut: Cut) -> Tensor:
        """See base class."""
        from nystra.programs.gpu import landmark_pooling as program

        layout = self.layout(geometry.window)
        kinds = [kind for _, kind in geometry.kinds(query.device)]
        tile, biased = program.tile_of(layout), any(kind.has_bias for kind in kinds)
        tables = geometry.table(
            (self, "gpu", geometry.kind_counts),
            kinds[-1],
            torch.float32,
            lambda: program.tables([self._plan(kind, tile, biased=biased) for kind in kinds], query.device),
        )
        return program.attend(query, key, value, tables, layout, geometry, cut)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, tables: "PoolingTables") -> Tensor:
        """See base class."""
        return self._attend(query, key, value, tables)[0]

    def attend_with_masses(
        self, query: Tensor, key: Tensor, value: Tensor, tables: "PoolingTables"
    ) -> tuple[Tensor, Tensor]:
        """See base class: of what the softmax holds, summaries and exact tokens."""
        outputs, logits = self._attend(query, key, value, tables)
        return outputs, tables.layout.scatter(logits.logsumexp(4, keepdim=True).flatten(2, 3))

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, tables: "PoolingTables") -> tuple[Tensor, Tensor]:
        """Outputs, and logits by groups of queries in the cells' order, (W, h, g, T, keys)."""
        layout = tables.layout
        blocks, cells = layout.num_blocks, layout.num_cells
        landmark = layout.means(query)
        query, key, value = (layout.gather(tensor) for tensor in (query, key, value))
        # Cell by cell, (W, h, s, m, t): weights then lie as the products with the cells' tokens read them.
        key_cells, value_cells = (tokens.unflatten(2, (cells, -1)) for tokens in (key, value))
        masses = add(at_least_float32(landmark.unsqueeze(2) @ key_cells.transpose(3, 4)), tables.mean)
        most = masses.detach().amax(4, keepdim=True)
        exponentials = (masses - most).exp()
        sums = exponentials.sum(4, keepdim=True)
        mass = (most + sums.log()).squeeze(4).transpose(2, 3)
        weights = (exponentials / sums).to(key.dtype)
        far_key, far_value = ((weights @ tokens).transpose(2, 3) for tokens in (key_cells, value_cells))
        offset = (mass - at_least_float32(far_key @ landmark.unsqueeze(4)).squeeze(4)).unsqueeze(3)
        query = query.unflatten(2, (blocks, -1))
        groups, count = tables.near.shape
        if not count:
            logits = at_least_float32(query @ far_key.transpose(3, 4)).add_(tables.bias).add_(offset)
            return layout.scatter((logits.softmax(4).to(value.dtype) @ far_value).flatten(2, 3)), logits
        near_key, near_value = (_near_tokens(tensor, tables) for tensor in (key, value))
        # Logits of each group's tokens to summaries, then to exact tokens: (W, h, g, T, s + exact). They are changed in
        # place because no tensor here is larger.
        if groups == blocks:
            keys, values = torch.cat([far_key, near_key], 3), torch.cat([far_value, near_value], 3)
            logits = at_least_float32(query @ keys.transpose(3, 4)).add_(tables.bias)
            logits[..., :cells].add_(offset)
            return layout.scatter((logits.softmax(4).to(value.dtype) @ values).flatten(2, 3)), logits
        far = at_least_float32(query @ far_key.transpose(3, 4)).add_(offset).flatten(2, 3).unflatten(2, (groups, -1))
        near = at_least_float32(query.flatten(2, 3).unflatten(2, (groups, -1)) @ near_key.transpose(3, 4))
        logits = torch.cat([far, near], 4).add_(tables.bias)
        far_part, near_part = logits.softmax(4).to(value.dtype).split([cells, near.shape[4]], 4)
        result = (far_part.flatten(2, 3).unflatten(2, (blocks, -1)) @ far_value).flatten(2, 3)
        return layout.scatter(result + (near_part @ near_value).flatten(2, 3)), logits


class PoolingTables(NamedTuple):
    """Static tables of landmark-centred pooling for one kind of window.

    Attributes:
        layout: blocks and cells.
        mean: β, minus infinity for repeats, (heads or 1, s, m, tokens of a cell); None: neither bias nor repeats.
        bias: of each group's tokens to its summaries (Δ; minus infinity where their tokens are attended exactly) and to
            its exact tokens (minus infinity beyond the window's edge): (heads or 1, groups, tokens of a group, s +
            exact).
        near: numbers of the cells that each group sees exactly, (groups, n), -1 for none.
        partition: whether `near` holds every cell once, in order: near tokens need no copies then.
    """

    layout: Cells
    mean: Tensor | None
    bias: Tensor
    near: Tensor
    partition: bool


def _near_tokens(tokens: Tensor, tables: PoolingTables) -> Tensor:
    """Tokens of the near cells of each group: (W, h, N, d) → (W, h, groups, n·t, d)."""
    if tables.partition:
        return tokens.unflatten(2, (len(tables.near), -1))
    by_cell = tokens.unflatten(2, (tables.layout.num_cells, -1))
    return by_cell[:, :, tables.near.clamp_min(0)].flatten(3, 4)
