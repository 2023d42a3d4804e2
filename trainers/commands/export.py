"""The verb `export`: the weights of a run's checkpoint alone, under the original architecture's keys."""

from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console

from datamodules.files.atomic import atomic_file
from glmha.shared.checkpoint_files import CARD, write_safetensors
from glmha.shared.released.locate import locate
from nystra.sites import attention_record
from trainers.errors import printable
from trainers.networks import load_network
from trainers.runs.cards import make_card

ExportFormat = Literal["pth", "safetensors"]
FORMATS: dict[str, ExportFormat] = {".pth": "pth", ".pt": "pth", ".safetensors": "safetensors"}
"""Endings of files, and the format that each stands for."""


def export_weights(checkpoint: str | Path, *, output: Path, format: ExportFormat | None = None) -> None:
    """Write a checkpoint's weights as a plain state dict, without optimiser and adapters, with a card of the model.

    Keys are upstream's, so that its own code and loaders such as spandrel's read them. Some scripts want the state dict
    of a .pth file under another name (`params` in Restormer's and SwinIR's) than `state_dict`. Windows and kernels,
    where they are not the released ones, stand beside it under `attention`; `nystra.load_pretrained` restores both,
    upstream's code does not know of them. The card (`lowrank info FILE`) tells the architecture, the recipe, the scores
    with their protocol, and the licence of the weights that training started from.

    Args:
        checkpoint: of `lowrank fit`, or any that this package loads; as --pretrained elsewhere.
        output: file to write; replaced if it is there.
        format: pth (torch's own, with the card beside the state dict) or safetensors (with the card in the file's
            metadata); null: as the output's ending says.

    Raises:
        CheckpointError: if the checkpoint cannot be read or is of no network of this package.
        ValueError: if the ending of `output` does not fit the format, or it is the checkpoint.
    """
    chosen = _choose_format(output, format)
    source = locate(checkpoint, "checkpoint")
    if output.exists() and output.samefile(source):
        raise ValueError(f"output ({output}) must not be the checkpoint itself, whose other contents would be lost")
    net = load_network(source, argument="checkpoint")
    content = exported(net, source)
    with atomic_file(output) as file:
        if chosen == "safetensors":
            file.write(write_safetensors(content))
        else:
            torch.save(content, file)
    size = content[CARD]["parameters"]
    console = Console(markup=False, highlight=False, emoji=False)
    console.print(f"weights: {printable(str(output))}, {type(net).__name__}, {size} parameters", soft_wrap=True)


def exported(net: torch.nn.Module, source: Path) -> dict[str, Any]:
    """Gather what an exported checkpoint holds.

    Args:
        net: loaded from `source`.
        source: a checkpoint.

    Returns:
        The state dict, the attention record where there is one, and the card.
    """
    content: dict[str, Any] = {"state_dict": net.state_dict()}
    if record := attention_record.record(net):
        content[attention_record.KEY] = record
    return {**content, CARD: make_card(net, source)}


def _choose_format(output: Path, format: ExportFormat | None) -> ExportFormat:
    fitting = FORMATS.get(output.suffix)
    if fitting is None or format not in (None, fitting):
        endings = [ending for ending, kind in FORMATS.items() if format in (None, kind)]
        raise ValueError(f"output ({output}) must end in {' or '.join(endings)}, by which its format is told")
    return fitting
