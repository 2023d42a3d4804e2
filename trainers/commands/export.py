"""The verb `export`: the weights of a run's checkpoint alone, under the original architecture's keys."""

from pathlib import Path

import torch
from rich.console import Console

from datamodules.files.atomic import atomic_file
from glmha.shared.released.locate import locate
from nystra.sites import attention_record
from trainers.errors import printable
from trainers.networks import load_network


def export_weights(checkpoint: str | Path, *, output: Path) -> None:
    """Write a checkpoint's weights as a plain state dict under `state_dict`, without optimiser and adapters.

    Keys are upstream's, whose scripts may want the state dict under another name (`params` in Restormer's and
    SwinIR's). Windows and kernels, where they are not the released ones, stand beside it under `attention`;
    `nystra.load_pretrained` restores both, upstream's code does not know of them.

    Args:
        checkpoint: of `lowrank fit`, or any that this package loads; as --pretrained elsewhere.
        output: .pth file to write; replaced if it is there.

    Raises:
        CheckpointError: if the checkpoint cannot be read or is of no network of this package.
        ValueError: if `output` does not end in .pth or .pt, or is the checkpoint.
    """
    if output.suffix not in (".pth", ".pt"):
        raise ValueError(f"output ({output}) must end in .pth or .pt: it is written by torch.save")
    source = locate(checkpoint, "checkpoint")
    if output.exists() and output.samefile(source):
        raise ValueError(f"output ({output}) must not be the checkpoint itself, whose other contents would be lost")
    net = load_network(source, argument="checkpoint")
    content = {"state_dict": net.state_dict()}
    if record := attention_record.record(net):
        content[attention_record.KEY] = record
    with atomic_file(output) as file:
        torch.save(content, file)
    size = sum(value.numel() for value in net.parameters())
    console = Console(markup=False, highlight=False, emoji=False)
    console.print(f"weights: {printable(str(output))}, {type(net).__name__}, {size} parameters", soft_wrap=True)
