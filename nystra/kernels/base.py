"""The base class of kernels, and the contract that they share.

`kernel(query, key, value, geometry)` maps three tensors (W, h, N, d) to one. W windows follow each other as
`nystra.windows.geometry` orders them; h heads, N tokens of a window, d channels of a head. The scale is folded into the
queries. Bias and mask come from the geometry, for tokens and landmarks alike.
"""

import abc
import dataclasses
from typing import Any, ClassVar, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from glmha.shared.graphs import is_recorded
from glmha.shared.precision import at_least_float32
from nystra.functional import add
from nystra.kernels.projections import Projections
from nystra.programs.by_device import attend_by_program, has_program_for
from nystra.windows.geometry import ExtraTokens, WindowGeometry, WindowKind
from nystra.windows.partition import Cut


class Cost(NamedTuple):
    """Cost of attention for one head in one window.

    Attributes:
        macs: multiply-adds per token.
        floats: numbers in the largest intermediate result.

    Examples:
        >>> from nystra import Softmax
        >>> Softmax().cost((8, 8), channels=16)
        Cost(macs=2048, floats=1024)
    """

    macs: float
    floats: int


def _autocasts(features: Tensor) -> bool:
    # Of tensors without data, by which products are counted, there is no autocast to ask for.
    device = features.device.type
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


@dataclasses.dataclass(frozen=True)
class Kernel(abc.ABC):
    """Base of all kernels: applies `attend` to every kind of window with the tables made for it.

    Attributes:
        sees_bias: whether position bias and masks enter the outputs.
        has_program: whether `attend_natively` has a program.
        has_gpu_program: whether `attend_on_gpu` has one.

    Examples:
        A kernel of your own gives every token the mean of its window's values:

        >>> import torch
        >>> from nystra import Kernel, WindowGeometry
        >>> from nystra.kernels import Cost
        >>> class MeanOfValues(Kernel):
        ...     def cost(self, window, channels):
        ...         return Cost(macs=channels, floats=channels)
        ...     def tables(self, kind, dtype):
        ...         return None
        ...     def attend(self, query, key, value, tables):
        ...         return value.mean(2, keepdim=True).expand_as(value)
        >>> query, key, value = torch.rand(3, 5, 2, 16, 8)
        >>> MeanOfValues()(query, key, value, WindowGeometry((4, 4))).shape
        torch.Size([5, 2, 16, 8])
    """

    sees_bias: ClassVar[bool] = True
    has_program: ClassVar[bool] = False
    has_gpu_program: ClassVar[bool] = False
    _tells_masses: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        """Find out what a class has: one that attends in its own way has not its parent's program or masses."""

        def depth(*names: str) -> int:
            return next(index for index, base in enumerate(cls.__mro__) if any(name in vars(base) for name in names))

        super().__init_subclass__()
        own = depth("attend", "tables")
        cls.has_program, cls.has_gpu_program, cls._tells_masses = (
            depth(name) <= own for name in ("attend_natively", "attend_on_gpu", "attend_with_masses")
        )

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, geometry: WindowGeometry) -> Tensor:
        """Attend within windows.

        Autocast sets the precision of queries, keys and values alone: products that kernels keep in float32 stay so.

        Args:
            query: shape (W, h, N, d), the scale folded in.
            key: shape (W, h, N, d).
            value: shape (W, h, N, d).
            geometry: of the windows; with tokens beside the maps, N counts these, too.

        Returns:
            Shape (W, h, N, d), dtype of `value`, or of autocast where it is enabled.

        Raises:
            ValueError: if there are tokens beside the maps, and the kernel does not tell masses.
        """
        attend = self.attend_all if geometry.extra is None else self.attend_sequences
        if not _autocasts(query):
            return attend(query, key, value, geometry)
        dtype = torch.get_autocast_dtype(query.device.type)
        with torch.autocast(query.device.type, enabled=False):
            return attend(query.to(dtype), key.to(dtype), value.to(dtype), geometry)

    def over_maps(self, query: Tensor, key: Tensor, value: Tensor, geometry: WindowGeometry, cut: Cut) -> Tensor:
        """Attend within the windows of feature maps, of films also.

        Args:
            query: shape (B, H, W, h, d), the scale folded in; of films (B, T, H, W, h, d).
            key: shape of `query`.
            value: shape of `query`.
            geometry: of the windows.
            cut: of the maps into windows.

        Returns:
            Shape of `query`; precision as in a call.
        """
        if _autocasts(query):
            dtype = torch.get_autocast_dtype(query.device.type)
            with torch.autocast(query.device.type, enabled=False):
                return self.over_maps(query.to(dtype), key.to(dtype), value.to(dtype), geometry, cut)
        if self.reads_maps(query):
            natively = attend_by_program(self, query, key, value, geometry, cut)
            if natively is not None:
                return natively
        return self.window_by_window(query, key, value, geometry, cut)

    def window_by_window(self, query: Tensor, key: Tensor, value: Tensor, geometry: WindowGeometry, cut: Cut) -> Tensor:
        """Attend as `over_maps`: cut windows out, attend within them, put them together again."""
        query, key, value = (cut.windows(maps).transpose(1, 2) for maps in (query, key, value))
        return cut.join(self(query, key, value, geometry).transpose(1, 2))

    def reads_maps(self, features: Tensor) -> bool:
        """Whether `over_maps` reads windows from maps like these where they lie, instead of cutting them out."""
        return has_program_for(self, features)

    def attend_natively(
        self, query: Tensor, key: Tensor, value: Tensor, geometry: WindowGeometry, cut: Cut
    ) -> Tensor | None:
        """Attend as `over_maps` by a native program (`nystra.programs`); None: plain torch is to do it.

        Maps are (B, H, W, h, d). Where windows reach over t frames, they are (B, t·H, W, h, d).
        """
        return None

    def attend_on_gpu(self, query: Tensor, key: Tensor, value: Tensor, geometry: WindowGeometry, cut: Cut) -> Tensor:
        """Attend as `attend_natively` by a program of `nystra.programs.gpu`, on tensors that `usable` there takes."""
        raise NotImplementedError(f"{type(self).__name__} has no program for graphics processors")

    def masses_natively(
        self, query: Tensor, key: Tensor, value: Tensor, geometry: WindowGeometry, cut: Cut
    ) -> Tensor | None:
        """Attend as `attend_natively`, with the masses of `attend_with_masses` as one more channel; float32 only."""
        return None

    def attend_all(self, query: Tensor, key: Tensor, value: Tensor, geometry: WindowGeometry) -> Tensor:
        """Attend within windows of all kinds, outside autocast."""
        cut, maps = self._as_maps(query, key, value, geometry.window)
        natively = attend_by_program(self, *maps, geometry, cut)
        if natively is not None:
            return natively.flatten(1, -3).transpose(1, 2)
        kinds = list(geometry.kinds(query.device))
        if len(kinds) == 1:
            return self.attend(query, key, value, self._tables(kinds[0][1], geometry, query))
        shape = query.shape[1:]
        inputs = [tensor.unflatten(0, (-1, *geometry.grid)) for tensor in (query, key, value)]
        if is_recorded():
            return geometry.by_kinds(
                lambda kind, q, k, v: self.attend(q, k, v, self._tables(kind, geometry, query)), *inputs
            ).flatten(0, -4)
        result = value.new_empty(inputs[2].shape)
        for places, kind in kinds:
            which = (slice(None), *places)
            parts = [tensor[which] for tensor in inputs]
            windows = parts[0].shape[:-3]
            flat = [part.reshape(-1, *shape) for part in parts]
            attended = self.attend(flat[0], flat[1], flat[2], self._tables(kind, geometry, query))
            result[which] = attended.unflatten(0, windows)
        return result.flatten(0, -4)

    @staticmethod
    def _as_maps(
        query: Tensor, key: Tensor, value: Tensor, window: tuple[int, ...]
    ) -> tuple[Cut, tuple[Tensor, Tensor, Tensor]]:
        """Windows (W, h, N, d) as maps of one window each, (W, height, width, h, d), and their cut."""
        maps = [windows.transpose(1, 2).unflatten(1, window) for windows in (query, key, value)]
        return Cut(window, window), (maps[0], maps[1], maps[2])

    def attend_sequences(self, query: Tensor, key: Tensor, value: Tensor, geometry: WindowGeometry) -> Tensor:
        """Attend within windows that have tokens beside their maps, see `ExtraTokens`, outside autocast.

        These tokens are attended exactly, and attend exactly to all. The kernel is left with the map: its outputs and
        the exact ones share one softmax, by the kernel's mass of the map's keys.
        """
        self.require_masses()
        before, after, bias = geometry.extra or ExtraTokens(0, 0)
        count = query.shape[2]
        places = torch.arange(count, device=query.device)
        inside = slice(before, count - after)
        beside = torch.cat([places[:before], places[count - after :]])
        queries, keys, values = map(geometry.of_maps, (query, key, value))
        attended, masses = self._attend_with_masses(queries, keys, values, geometry.maps)
        other_keys, other_values = key[:, :, beside], value[:, :, beside]
        to_others, of_others = (None, None) if bias is None else (bias[:, inside][:, :, beside], bias[:, beside])
        logits = add(at_least_float32(queries @ other_keys.mT), to_others)
        weights = torch.cat([masses, logits], 3).softmax(3).to(value.dtype)
        merged = weights[..., :1] * attended + weights[..., 1:] @ other_values
        mask = None if of_others is None else of_others.to(query.dtype).unsqueeze(0)
        exact = F.scaled_dot_product_attention(query[:, :, beside], key, value, attn_mask=mask, scale=1.0)
        return torch.cat([exact[:, :, :before], merged, exact[:, :, before:]], 2)

    def _attend_with_masses(
        self, query: Tensor, key: Tensor, value: Tensor, geometry: WindowGeometry
    ) -> tuple[Tensor, Tensor]:
        """Outputs and masses of windows of one kind, by a native program if there is one."""
        of_images = len(geometry.window) == 2 and query.shape == key.shape == value.shape
        if self.has_program and query.dtype == torch.float32 and of_images:
            cut, maps = self._as_maps(query, key, value, geometry.window)
            natively = self.masses_natively(*maps, geometry, cut)
            if natively is not None:
                both = natively.flatten(1, 2).transpose(1, 2)
                return both[..., :-1], both[..., -1:]
        ((_, kind),) = geometry.kinds(query.device)
        return self.attend_with_masses(query, key, value, self._tables(kind, geometry, query))

    def require_masses(self) -> None:
        """Refuse windows with tokens beside their maps, where the kernel does not tell masses.

        Raises:
            ValueError: if the kernel does not.
        """
        if not self._tells_masses:
            raise ValueError(
                f"kernel ({self}) must tell the masses of keys (attend_with_masses) to attend to a map that has other "
                "tokens beside it"
            )

    def _tables(self, kind: WindowKind, geometry: WindowGeometry, query: Tensor) -> Any:
        return geometry.table(self, kind, query.dtype, lambda: self.tables(kind, query.dtype))

    def absorbs(self, heads: int, channels: int) -> bool:
        """Whether the kernel has `absorbed` and it costs less than mapping every token, for h heads of d channels."""
        return False

    def absorbed(self, tokens: Tensor, projections: Projections, geometry: WindowGeometry) -> Tensor:
        """Attend within windows of tokens without mapping each of them to a query, a key and a value.

        Args:
            tokens: (W, N, C).
            projections: maps to queries, keys and values, and of the outputs.
            geometry: of the windows.

        Returns:
            Outputs, mapped: (W, N, C); precision as in a call.

        Raises:
            NotImplementedError: if the kernel cannot, see `absorbs`.
        """
        if not torch.is_autocast_enabled(tokens.device.type):
            return self.attend_absorbed(tokens, projections, geometry)
        dtype = torch.get_autocast_dtype(tokens.device.type)
        with torch.autocast(tokens.device.type, enabled=False):
            return self.attend_absorbed(tokens.to(dtype), projections.to(dtype), geometry)

    def attend_absorbed(self, tokens: Tensor, projections: Projections, geometry: WindowGeometry) -> Tensor:
        """Attend as `absorbed` does, outside autocast."""
        raise NotImplementedError(f"{type(self).__name__} needs every token's query, key and value")

    def fitted(self, window: tuple[int, ...]) -> Self:
        """The kernel with the numbers that it takes in a window; it attends there as this one does.

        Numbers of landmarks and cells are what is wanted. They are kept where they divide a window into equal parts.
        Elsewhere sizes of parts differ: by a token along a side for cells by position, whose numbers may change a
        little, and by a token for clusters by content. There are never more parts than tokens. The result stays as is.

        Args:
            window: its sides, height and width, in tokens.

        Examples:
            >>> from nystra import ContentPooling, Nystrom
            >>> ContentPooling().fitted((7, 7))
            ContentPooling(landmarks=16, cells=16, near=5, bias_rank=16)
            >>> Nystrom(landmarks=16, key_landmarks=32).fitted((7, 7))
            Nystrom(landmarks=16, key_landmarks=36, ridge=0.03)
        """
        return self

    @abc.abstractmethod
    def cost(self, window: tuple[int, ...], channels: int) -> Cost:
        """Cost of attention in a window of h×w tokens with d channels a head, without bias.

        Args:
            window: its sides, height and width, in tokens.
            channels: of a head.

        Returns:
            Multiply-adds a token, and numbers in the largest intermediate result.

        Raises:
            ValueError: if the kernel does not fit the window.
        """

    @abc.abstractmethod
    def tables(self, kind: WindowKind, dtype: torch.dtype) -> Any:
        """Compute what depends on positions alone, once for a kind of window.

        Args:
            kind: positions, bias and mask of these windows.
            dtype: of the queries.

        Returns:
            What `attend` takes as `tables`, of the kernel's own choice.
        """

    @abc.abstractmethod
    def attend(self, query: Tensor, key: Tensor, value: Tensor, tables: Any) -> Tensor:
        """Attend within windows of one kind.

        Args:
            query: shape (W, h, N, d), the scale folded in.
            key: shape (W, h, N, d).
            value: shape (W, h, N, d).
            tables: what `tables` made for this kind of window.

        Returns:
            Shape (W, h, N, d), dtype of `value`.
        """

    def attend_with_masses(self, query: Tensor, key: Tensor, value: Tensor, tables: Any) -> tuple[Tensor, Tensor]:
        """Attend as `attend`, and tell how much all keys weigh for each query.

        Returns:
            Outputs (W, h, N, d), and estimates of log Σ exp(logit) over the keys, (W, h, N, 1), float32 at least.

        Raises:
            NotImplementedError: if the kernel tells no masses.
        """
        raise NotImplementedError(f"{type(self).__name__} tells no masses of keys")
