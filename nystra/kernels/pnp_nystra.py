"""PnP-Nystra's attention as its authors' code computes it, and as the paper prints it.

The paper: Srinivasan Kidambi, Karthik Palaniappan and Pravin Nair, "Plug-and-Play Linear Attention with Provable
Guarantees for Training-Free Image Restoration" (https://arxiv.org/abs/2506.08520). Its first version of June 2025 is
called "Plug-and-Play Linear Attention for Pre-trained Image and Video Restoration Models".
"""

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor

from glmha.shared.precision import at_least_float32
from nystra.functional import iterative_pseudo_inverse, transposed_over_norms
from nystra.kernels.landmark_blocks import BlockTables, IteratedNystrom
from nystra.kernels.projections import KEY, QUERY, VALUE, Projections
from nystra.windows.cells import Cells
from nystra.windows.geometry import WindowGeometry, WindowKind


@dataclasses.dataclass(frozen=True)
class PublishedNystrom(IteratedNystrom):
    """PnP-Nystra as the authors' code computes it: neither bias nor mask, and the images of a batch are coupled.

    Eq. (7) of the paper with exp(min(x, t)) + relu(x - t) in place of exp(x). The pseudo-inverse starts from the
    largest norms of the whole batch, and 1e-12 is added to the denominators. Landmarks are means over cells of the
    window.

    Args:
        landmarks: m; see `Kernel.fitted`.
        iterations: of the pseudo-inverse.
        threshold: t; 5 in the authors' SwinIR, 0 in their Uformer and RVRT.

    Raises:
        ValueError: if a number is out of range.

    Examples:
        >>> import torch
        >>> from nystra import PublishedNystrom, WindowGeometry
        >>> query, key, value = torch.rand(3, 1, 2, 64, 8)
        >>> PublishedNystrom(landmarks=4)(query, key, value, WindowGeometry((8, 8))).shape
        torch.Size([1, 2, 64, 8])
        >>> PublishedNystrom.sees_bias
        False
    """

    sees_bias: ClassVar[bool] = False

    threshold: float = 5.0

    def attend_all(self, query: Tensor, key: Tensor, value: Tensor, geometry: WindowGeometry) -> Tensor:
        """Attend within all windows at once: their largest norms start the pseudo-inverse together."""
        return self.attend(query, key, value, Cells.nearest(geometry.window, self.landmarks))

    def tables(self, kind: WindowKind, dtype: torch.dtype) -> Cells:
        """The blocks."""
        return Cells.nearest(kind.window, self.landmarks)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, tables: Cells) -> Tensor:
        """Attend (W, h, N, d) in the authors' arithmetic: the core's pseudo-inverse by iteration, then normalised."""
        return self.attend_with_masses(query, key, value, tables)[0]

    def attend_with_masses(self, query: Tensor, key: Tensor, value: Tensor, tables: Cells) -> tuple[Tensor, Tensor]:
        """See base class: the denominators, as long as they are above zero."""
        query_mark, key_mark = tables.means(query), tables.means(key).transpose(2, 3)
        core = self._kernel(query_mark @ key_mark)
        inverse = iterative_pseudo_inverse(core, self.iterations, start=transposed_over_norms(core, whole_batch=True))
        landmarks = self._kernel(query_mark @ key.transpose(2, 3))
        cross = self._kernel(query @ key_mark)
        numerator = cross @ (inverse @ (landmarks @ at_least_float32(value)))
        denominator = cross @ (inverse @ landmarks.sum(3, keepdim=True))
        denominator = denominator + 1e-12
        return (numerator / denominator).to(value.dtype), _logarithm(denominator)

    def absorbs(self, heads: int, channels: int) -> bool:
        """Whether 4hmC multiply-adds a token, of `absorbed`, are fewer than 4C² + 4mC, of a call."""
        return heads * self.landmarks < heads * channels + self.landmarks

    def attend_absorbed(self, tokens: Tensor, projections: Projections, geometry: WindowGeometry) -> Tensor:
        """Attend as `absorbed` does, outside autocast."""
        marks = Cells.nearest(geometry.window, self.landmarks).means(tokens.unsqueeze(1)).squeeze(1)
        query_mark, key_mark, _ = projections.heads(marks)
        core = self._kernel(query_mark @ key_mark.transpose(2, 3))
        inverse = iterative_pseudo_inverse(core, self.iterations, start=transposed_over_norms(core, whole_batch=True))
        both = self._kernel(projections.logits(tokens, (QUERY, key_mark), (KEY, query_mark)))
        cross, landmarks = both.chunk(2, 2)
        heads = core.shape[1]
        masses = landmarks.sum(1).unflatten(1, (heads, -1))
        # Large products in bfloat16 lose nothing beside the rounding of the tokens; sums would overflow in float16.
        wide = torch.float32 if tokens.dtype == torch.float16 else tokens.dtype
        sums = landmarks.to(wide).transpose(1, 2) @ tokens.to(wide)
        values = projections.sums(VALUE, sums.to(core.dtype).unflatten(1, (heads, -1)), masses)
        # Head by head, by one product: (W, h·m, h) with zeros between heads.
        own = (inverse @ masses.unsqueeze(3)) * torch.eye(heads, dtype=core.dtype, device=core.device).unsqueeze(1)
        weights = cross.unflatten(2, (heads, -1)) / ((cross @ own.flatten(1, 2)).unsqueeze(3) + 1e-12)
        return projections.mix(weights.flatten(2).to(wide), (inverse @ values).to(wide)).to(tokens.dtype)

    def _kernel(self, logits: Tensor) -> Tensor:
        wide = at_least_float32(logits)
        bounded = wide.clamp_max(self.threshold)
        # relu(x - t) = x - min(x, t).
        return (wide - bounded).add_(bounded.exp())


@dataclasses.dataclass(frozen=True)
class PrintedNystrom(IteratedNystrom):
    """PnP-Nystra's Eq. (8) as printed, with bias and mask; nothing keeps the denominators from crossing zero.

    Rows of F and of [A | G] are divided by their largest entries. Each window starts the iteration for A⁺ from its
    norms alone.

    Args:
        landmarks: m; see `Kernel.fitted`.
        iterations: of the pseudo-inverse.

    Raises:
        ValueError: if a number is out of range.

    Examples:
        >>> import torch
        >>> from nystra import PrintedNystrom, Softmax, WindowGeometry
        >>> generator = torch.Generator().manual_seed(0)
        >>> query, key, value = torch.randn(3, 1, 2, 16, 8, dtype=torch.float64, generator=generator)
        >>> geometry = WindowGeometry((4, 4))
        >>> every_token = PrintedNystrom(landmarks=16, iterations=40)(query, key, value, geometry)
        >>> torch.allclose(every_token, Softmax()(query, key, value, geometry), atol=1e-4)
        True
    """

    def attend(self, query: Tensor, key: Tensor, value: Tensor, tables: BlockTables) -> Tensor:
        """Attend (W, h, N, d) through landmarks, exponentials scaled by their largest, rows normalised at the end."""
        return self.attend_with_masses(query, key, value, tables)[0]

    def attend_with_masses(
        self, query: Tensor, key: Tensor, value: Tensor, tables: BlockTables
    ) -> tuple[Tensor, Tensor]:
        """See base class: the denominators, as long as they are above zero."""
        cross, core, landmarks = tables.logits(query, key)
        most = torch.maximum(core.amax(3, keepdim=True), landmarks.amax(3, keepdim=True))
        core, landmarks = (core - most).exp(), (landmarks - most).exp()
        largest = cross.amax(3, keepdim=True)
        cross = (cross - largest).exp()
        inverse = iterative_pseudo_inverse(core, self.iterations, start=transposed_over_norms(core, whole_batch=False))
        ones = torch.ones_like(value[..., :1])
        mixed = cross @ (inverse @ (landmarks @ at_least_float32(torch.cat([value, ones], 3))))
        return (mixed[..., :-1] / mixed[..., -1:]).to(value.dtype), _logarithm(mixed[..., -1:]) + largest


def _logarithm(mass: Tensor) -> Tensor:
    """The logarithm of a mass; where it is not above zero, of next to nothing."""
    return mass.clamp_min(torch.finfo(mass.dtype).tiny).log()
