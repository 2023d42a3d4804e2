"""Nyströmformer's attention within windows, one of the kernels that others are compared with."""

import dataclasses

import torch
from torch import Tensor

from glmha.shared.precision import at_least_float32
from nystra.functional import iterative_pseudo_inverse, transposed_over_norms
from nystra.kernels.landmark_blocks import BlockTables, IteratedNystrom


@dataclasses.dataclass(frozen=True)
class Nystromformer(IteratedNystrom):
    """Nyströmformer (Xiong et al., AAAI 2021): softmax(Q K_mᵀ) softmax(Q_m K_mᵀ)⁺ softmax(Q_m Kᵀ) V, bias and mask in.

    Landmarks are means over cells of the window. Each window starts the pseudo-inverse from its norms alone.

    Args:
        landmarks: m; see `Kernel.fitted`.
        iterations: of the pseudo-inverse, >= 1.

    Raises:
        ValueError: if a number is out of range.

    Examples:
        >>> import torch
        >>> from nystra import Nystromformer, Softmax, WindowGeometry
        >>> query, key, value = torch.rand(3, 1, 2, 64, 8, generator=torch.Generator().manual_seed(0))
        >>> geometry = WindowGeometry((8, 8))
        >>> exact = Softmax()(query, key, value, geometry)
        >>> bool((Nystromformer(landmarks=4)(query, key, value, geometry) - exact).norm() < 0.1 * exact.norm())
        True
    """

    def attend(self, query: Tensor, key: Tensor, value: Tensor, tables: BlockTables) -> Tensor:
        """Attend (W, h, N, d) through landmarks: three softmax blocks, the core's pseudo-inverse by iteration."""
        return self.attend_with_masses(query, key, value, tables)[0]

    def attend_with_masses(
        self, query: Tensor, key: Tensor, value: Tensor, tables: BlockTables
    ) -> tuple[Tensor, Tensor]:
        """See base class: of the landmarks, as if all keys of a cell were its mean."""
        logits = tables.logits(query, key)
        sizes = torch.tensor(tables.cells.sizes(), device=query.device).log()
        masses = (logits[0] + sizes).logsumexp(3, keepdim=True)
        cross, core, landmarks = (block.softmax(3) for block in logits)
        inverse = iterative_pseudo_inverse(core, self.iterations, start=transposed_over_norms(core, whole_batch=False))
        return (cross @ (inverse @ (landmarks @ at_least_float32(value)))).to(value.dtype), masses
