"""Where a query looks: the weights of one token's query in its window, and the image under the window's tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nystra.analysis.weights import attention_weights
from nystra.kernels.base import Cost, Kernel
from nystra.kernels.softmax import Softmax
from nystra.sites.substitution import find_sites
from nystra.windows.geometry import WindowGeometry, WindowKind
from nystra.windows.partition import Cut


@dataclass(frozen=True)
class Look:
    """One query's weights in its window of h×w tokens, and the image under them.

    Attributes:
        picture: the window as the image has it under its tokens, (C, h·s, w·s) for s×s pixels a token.
        token: row and column of the query in the window.
        exact: weights of exact attention, (heads, h, w).
        kernels: those of each kernel, (heads, h, w).

    Examples:
        >>> from nystra.analysis import Look
        >>> list(Look.__annotations__)
        ['picture', 'token', 'exact', 'kernels']
    """

    picture: Tensor
    token: tuple[int, int]
    exact: Tensor
    kernels: dict[Kernel, Tensor]


@torch.no_grad()
def look(net: nn.Module, image: Tensor, pixel: tuple[int, int], kernels: Sequence[Kernel], *, site: str) -> Look:
    """Find where the query under a pixel looks at one site, by exact attention and by kernels.

    All see the queries, keys and values that reach the site under the net's present kernels.

    Args:
        net: host with window attentions.
        image: its input, (1, C, H, W), of a size that it need not extend.
        pixel: row and column of the image.
        kernels: to be put beside exact attention.
        site: name of the site.

    Returns:
        The weights. Of windows that hold the pixel (a reflected edge has it twice) it is that in whose middle it is.

    Raises:
        ValueError: if there is no such site, its windows reach over frames, or the pixel is not in the image.

    Examples:
        >>> import torch
        >>> from nystra import LandmarkPooling, SwinIR
        >>> from nystra.analysis import look
        >>> net = SwinIR(img_size=8, embed_dim=8, depths=[2], num_heads=[2], window_size=4).eval()
        >>> name = "layers.0.residual_group.blocks.1.attn"
        >>> seen = look(net, torch.rand(1, 3, 16, 24), (5, 9), [LandmarkPooling(4, 4)], site=name)
        >>> seen.picture.shape, seen.exact.shape, round(float(seen.exact[0].sum()), 4)
        (torch.Size([3, 4, 4]), torch.Size([2, 4, 4]), 1.0)
    """
    (found,) = find_sites(net, site).values()
    if len(found.window_size) != 2:
        raise ValueError(f"site ({site}) must have windows of images, got windows of {found.window_size}")
    height, width = image.shape[-2:]
    if not (0 <= pixel[0] < height and 0 <= pixel[1] < width):
        raise ValueError(f"pixel ({pixel[0]}, {pixel[1]}) must be in the image of {height}×{width} pixels")
    kernel = found.kernel
    found.kernel = seen = _Seen(kernel)
    try:
        net(image)
    finally:
        found.kernel = kernel
    windows, geometry, cut = seen.given[0]
    side = max(height // cut.size[0], 1)
    # The place of every token of the windows on the map: (windows, N, 2).
    axes = torch.meshgrid(*(torch.arange(length, dtype=torch.float32) for length in cut.size), indexing="ij")
    places = cut.windows(torch.stack(axes, 2)[None])
    wanted = torch.tensor([pixel[0] // side, pixel[1] // side]).clamp(max=torch.tensor(cut.size) - 1)
    rows, columns = found.window_size
    holders = (places == wanted).all(2).nonzero()
    middle = torch.tensor([(rows - 1) / 2, (columns - 1) / 2])
    at = torch.stack([holders[:, 1] // columns, holders[:, 1] % columns], 1)
    window, number = holders[(at - middle).square().sum(1).argmin()].tolist()
    kind = next(kind for where, kind in geometry.kinds(windows[0].device) if _holds(where, window, geometry.grid))
    tokens = [each[window : window + 1] for each in windows]
    shape = (-1, rows, columns)

    def weights(each: Kernel) -> Tensor:
        return attention_weights(each, tokens[0], tokens[1], tokens[2], kind, [number])[0, :, 0].reshape(shape)

    patches = image[0, :, : cut.size[0] * side, : cut.size[1] * side].unflatten(2, (-1, side)).unflatten(1, (-1, side))
    of_tokens = places[window].long()
    # (C, N, s, s): the pixels under each token, put where the token is in the window.
    picture = patches.movedim(2, 3)[:, of_tokens[:, 0], of_tokens[:, 1]].unflatten(1, (rows, columns))
    picture = picture.movedim(3, 2).flatten(3, 4).flatten(1, 2)
    return Look(picture, (number // columns, number % columns), weights(Softmax()), {k: weights(k) for k in kernels})


def _holds(where: tuple[slice, ...], window: int, grid: tuple[int, ...]) -> bool:
    """Whether the windows at some places of the grid include the one of this number."""
    place = (window // grid[1], window % grid[1])
    return all(index in range(*part.indices(count)) for index, part, count in zip(place, where, grid, strict=True))


class _Seen(Kernel):
    """Keeps what reached a kernel, and how maps were cut into windows."""

    kernel: Kernel
    given: list[tuple[list[Tensor], WindowGeometry, Cut]]

    def __init__(self, kernel: Kernel) -> None:
        self.__dict__.update(kernel=kernel, given=[])

    def over_maps(self, query: Tensor, key: Tensor, value: Tensor, geometry: WindowGeometry, cut: Cut) -> Tensor:
        windows = [cut.windows(maps).transpose(1, 2) for maps in (query, key, value)]
        self.given.append((windows, geometry, cut))
        return self.kernel.over_maps(query, key, value, geometry, cut)

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, geometry: WindowGeometry) -> Tensor:
        size = tuple(count * side for count, side in zip(geometry.grid, geometry.window, strict=True))
        maps = [geometry.of_maps(tokens) for tokens in (query, key, value)]
        self.given.append((maps, geometry, Cut(size, geometry.window, geometry.shift)))
        return self.kernel(query, key, value, geometry)

    def require_masses(self) -> None:
        self.kernel.require_masses()

    def cost(self, window: tuple[int, ...], channels: int) -> Cost:
        return self.kernel.cost(window, channels)

    def tables(self, kind: WindowKind, dtype: torch.dtype) -> Any:
        return self.kernel.tables(kind, dtype)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, tables: Any) -> Tensor:
        return self.kernel.attend(query, key, value, tables)
