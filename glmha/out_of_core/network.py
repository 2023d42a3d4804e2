"""The hosts' forward passes on maps of rows: channel attention in passes over the image, all else row by row."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glmha import functional
from glmha.attention.base import ChannelAttention
from glmha.hosts.restormer import TransformerBlock
from glmha.hosts.spectral_unet import PreNormFeedForward, SpectralBlock
from glmha.layers import GatedFeedForward, LayerNorm, to_image, to_tokens
from glmha.low_rank.glmha import GLMHA
from glmha.out_of_core.rows import Computed, Rows, Store

Progress = Callable[[int, int], None]
"""Called after each block with the numbers of finished and of all blocks."""

# Rows that the widest operation of an attention or a feed-forward network looks at on either side.
HALO = 2
# Shares of the memory that is given: for maps that are kept, and for what is made of the rows in work.
KEPT, BAND = 0.4, 0.1


class OutOfCore(nn.Module):
    """A network with channel attention whose results are those for the whole image, in bounded memory.

    Tiles give such a network other statistics than the image has. Here each attention goes over the image twice, band
    by band (three times if it is calibrated): once for the sums that its matrix is made of, in float64, and once for
    its outputs. Feature maps between blocks are kept in memory as far as they fit, and beyond it in temporary files.
    The result is the whole image's up to rounding; it takes up to twice the time.

    Args:
        net: Restormer, MST or MST++, of either kind, with `ChannelAttention` or `GLMHA`.
        max_memory: bytes that may be taken beside the network, the image and the result, >= 64 MiB.
        folder: for temporary files, the input and output of a block and what skips levels. None: the system's.
        progress: called after each block.

    Raises:
        ValueError: if the network has attentions or no blocks of other kinds, or there is less memory.

    Examples:
        >>> import torch
        >>> from glmha import OutOfCore, Restormer
        >>> net = Restormer(dim=8, num_blocks=(1, 1, 1, 1), num_refinement_blocks=1).eval()
        >>> image = torch.rand(1, 3, 64, 48)
        >>> with torch.inference_mode():
        ...     whole, by_rows = net(image), OutOfCore(net, max_memory=2**26)(image)
        >>> torch.allclose(whole, by_rows, atol=1e-5)
        True
    """

    def __init__(
        self, net: nn.Module, max_memory: int, folder: Path | None = None, progress: Progress | None = None
    ) -> None:
        super().__init__()
        if max_memory < 2**26:
            raise ValueError(
                f"max_memory ({max_memory} bytes) must be at least {2**26} (64 MiB), for some rows of maps"
            )
        attentions = [module for module in net.modules() if hasattr(module, "convention")]
        strange = {type(module).__name__ for module in attentions if type(module) not in (ChannelAttention, GLMHA)}
        if strange or not attentions:
            raise ValueError(
                f"max_memory must be left out for {type(net).__name__} with {', '.join(strange) or 'no'} channel "
                "attention: only ChannelAttention and GLMHA are computed row by row; restore it in tiles"
            )
        self.net = net
        self.max_memory = max_memory
        self.folder = folder
        self.progress = progress

    def __getattr__(self, name: str) -> Any:
        """What the network states of itself."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("net"), name)

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """Restore images, one after the other.

        Args:
            image: (B, C, H, W), as the network takes it.

        Returns:
            What the network gives for whole images.
        """
        return torch.cat([self._restored(each.unsqueeze(0)) for each in image])

    def _restored(self, image: Tensor) -> Tensor:
        device = next(self.net.parameters()).device
        store = Store(int(KEPT * self.max_memory), int(BAND * self.max_memory), self.folder, device)
        source = Computed(image.shape, lambda low, high: image[:, :, low:high].to(device))
        with _by_rows(self.net, store, self.progress):
            result = self.net(source)
        pieces = [result.rows(low, high).to(image.device) for low, high in store.bands(result)]
        return torch.cat(pieces, 2)


@contextlib.contextmanager
def _by_rows(net: nn.Module, store: Store, progress: Progress | None) -> Iterator[None]:
    """Give the parts of a network forward passes on maps of rows, for as long as the context lasts."""
    forms: dict[type[nn.Module], Callable[..., Rows]] = {
        LayerNorm: _pixelwise,
        GatedFeedForward: _local,
        PreNormFeedForward: _local,
        ChannelAttention: functools.partial(_attention, store=store),
        GLMHA: functools.partial(_attention, store=store),
    }
    blocks = [module for module in net.modules() if isinstance(module, TransformerBlock | SpectralBlock)]
    done = 0

    def block_form(block: nn.Module, forward: Callable[..., Rows], x: Rows, *mask: Rows | None) -> Rows:
        nonlocal done
        result = store.keep(forward(store.keep(x), *(None if each is None else store.keep(each) for each in mask)))
        done += 1
        if progress is not None:
            progress(done, len(blocks))
        return result

    changed = [(module, forms[type(module)]) for module in net.modules() if type(module) in forms]
    changed += [(block, block_form) for block in blocks]
    try:
        for module, form in changed:
            vars(module)["forward"] = functools.partial(form, module, module.forward)
        yield
    finally:
        for module, _ in changed:
            vars(module).pop("forward", None)


def _pixelwise(module: nn.Module, forward: Callable[[Tensor], Tensor], x: Rows) -> Rows:
    return x.map(forward, x.shape[1])


def _local(module: nn.Module, forward: Callable[[Tensor], Tensor], x: Rows) -> Rows:
    return x.map(forward, x.shape[1], HALO)


def _attention(
    module: ChannelAttention, forward: Callable[..., Tensor], x: Rows, mask: Rows | None = None, *, store: Store
) -> Rows:
    """Channel attention: its matrix of sums over all bands, then its outputs of the rows that are read."""
    convention, heads = module.convention, module.heads
    scale = _calibration(module, x, store)
    known = None if scale is None else lambda _: scale

    def tokens(rows: Tensor, inner: slice) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = convention.tokens(module, rows, known)
        if inner == slice(0, rows.shape[2]):
            return query, key, value
        query, key, value = (to_tokens(to_image(part, rows)[:, :, inner]) for part in (query, key, value))
        return query, key, value

    products, squares = torch.zeros(()), [torch.zeros(()), torch.zeros(())]
    for low, high in store.bands(x):
        query, key, _ = tokens(*x.around(low, high, HALO))
        products = products + functional.head_products(query, key, heads).double()
        norms = [functional.channel_norms(part, heads).double().square() for part in (query, key)]
        squares = [total + norm for total, norm in zip(squares, norms, strict=True)]
    x.forget()
    cosines = functional.cosine(products, *(total.sqrt() for total in squares))
    attention = module.normalise(cosines).to(torch.float32)

    def read(low: int, high: int) -> Tensor:
        # Of the rows around these as well: outputs may have convolutions of their own.
        rows, inner = x.around(low, high, 2 * HALO)
        _, _, value = convention.tokens(module, rows, known)
        guidance = None if mask is None else mask.around(low, high, 2 * HALO)[0]
        return convention.output(module, attention, value, rows, guidance)[:, :, inner]

    return Computed(x.shape, read)


def _calibration(module: ChannelAttention, x: Rows, store: Store) -> Tensor | None:
    """Weights of the input's channels (1, C) of a calibrated attention, Eq. (5), from the largest queries of bins."""
    if not isinstance(module, GLMHA) or module.calibration is None:
        return None
    bins = module.calibration.kernel_size
    height = x.shape[2]
    # As of adaptive pooling: parts overlap where sides are no multiples.
    parts = [(number * height // bins, -(-(number + 1) * height // bins)) for number in range(bins)]
    largest: list[Tensor | None] = [None] * bins
    for low, high in store.bands(x):
        rows, inner = x.around(low, high, HALO)
        seen: list[Tensor] = []
        module.convention.tokens(module, rows, functools.partial(_noted, seen=seen))
        query = seen[0][:, :, inner]
        for number, (first, until) in enumerate(parts):
            part = query[:, :, max(first - low, 0) : max(until - low, 0)]
            if part.shape[2]:
                pooled = F.adaptive_max_pool2d(part, (1, bins))
                before = largest[number]
                largest[number] = pooled if before is None else torch.maximum(before, pooled)
    pooled = torch.cat([each for each in largest if each is not None], 2)
    # Pooling what is pooled already changes nothing.
    return module.calibrate(pooled) if module.calibrate is not None else None


def _noted(query: Tensor, *, seen: list[Tensor]) -> Tensor:
    seen.append(query)
    return query.new_ones(query.shape[:2])
