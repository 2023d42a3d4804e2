"""Data that send Ctrl-C to their own process, and a recipe with them."""

import signal
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor
from torch.utils.data import Dataset

from datamodules import PairedFolderDataModule


class Interrupting(PairedFolderDataModule):
    """Sends Ctrl-C to its own process while an image is read.

    Args:
        split: "train" or "val".
        access: which access to an image of that split it is, counted from 1.
        **kwargs: of `PairedFolderDataModule`.
    """

    def __init__(self, split: str, access: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.split, self.access = split, access

    def _dataset(self, pairs: Any, *args: Any) -> Any:
        dataset = super()._dataset(pairs, *args)
        if pairs.inputs[0].parts[-3] != self.split:
            return dataset
        return Counting(dataset, self.access)


class Counting(Dataset):
    """Passes a data set on, and sends Ctrl-C at one access."""

    def __init__(self, dataset: Dataset, access: int) -> None:
        self.dataset, self.left = dataset, access

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Tensor | str]:
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGINT)
        return self.dataset[index]


def interrupting(recipe: Path, split: str, access: int) -> Path:
    """The recipe with data that interrupt it, and averaged weights."""
    config = yaml.safe_load(recipe.read_text())
    config["data"]["class_path"] = f"{__name__}.Interrupting"
    config["data"]["init_args"] |= {"split": split, "access": access}
    config["trainer"]["callbacks"] = [
        {"class_path": "lightning.pytorch.callbacks.EMAWeightAveraging", "init_args": {"decay": 0.5}}
    ]
    path = recipe.with_name(f"{split}{access}.yaml")
    path.write_text(yaml.safe_dump(config))
    return path


NEVER = 1000


def load(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)
