"""Graphs of a network's operations: whether they are being recorded for one, for images of other sizes as well."""

import torch


def is_recorded() -> bool:
    """Whether `torch.export` or `torch.jit.trace` records operations: none may then be chosen by an image's size.

    A graph is run elsewhere, where memory is laid out otherwise: operations are those that are cheap on (B, C, H, W).
    """
    return torch.compiler.is_exporting() or torch.jit.is_tracing()
