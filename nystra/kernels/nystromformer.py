"""Nyströmformer's attention within windows, for comparison."""

import dataclasses

from torch import Tensor

from glmha.shared.precision import at_least_float32
from nystra.functional import iterative_pseudo_inverse, transposed_over_norms
from nystra.kernels.landmark_blocks import BlockTables, IteratedNystrom


@dataclasses.dataclass(frozen=True)
class Nystromformer(IteratedNystrom):
    """Nyströmformer (Xiong et al.): softmax(Q K_mᵀ) softmax(Q_m K_mᵀ)⁺ softmax(Q_m Kᵀ) V, with bias and mask.

    Landmarks are means over cells of the window; each window has a start of its own for the pseudo-inverse.

    Args:
        landmarks: m; must divide the window.
        iterations: of the pseudo-inverse.

    Raises:
        ValueError: if a number is out of range.
    """

    def attend(self, query: Tensor, key: Tensor, value: Tensor, tables: BlockTables) -> Tensor:
        """See base class."""
        cross, core, landmarks = (block.softmax(3) for block in tables.logits(query, key))
        inverse = iterative_pseudo_inverse(core, self.iterations, start=transposed_over_norms(core, whole_batch=False))
        return (cross @ (inverse @ (landmarks @ at_least_float32(value)))).to(value.dtype)
