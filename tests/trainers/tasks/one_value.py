"""The smallest network that can learn something, images for it, and a trainer that writes nothing by itself."""

from pathlib import Path

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.utils.data import Dataset


class Offset(nn.Module):
    """Adds one learned value to an image: the smallest network that can learn something."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, image: Tensor) -> Tensor:
        return image + self.value


class Images(Dataset):
    """Grey images whose target is 0.2 brighter, one of them of a value of its own."""

    def __init__(self, count: int = 4, odd: tuple[int, float] | None = None) -> None:
        self.values = [0.2] * count
        if odd is not None:
            self.values[odd[0]] = odd[1]

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> dict[str, object]:
        image = torch.full((1, 12, 14), self.values[index])
        return {"input": image, "target": image + 0.2, "name": f"image{index}"}


class Photographs(Dataset):
    """One image of colours, its own target."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> dict[str, object]:
        image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(index))
        return {"input": image, "target": image, "name": "noise"}


def trainer(folder: Path, **options: object) -> Trainer:
    defaults = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    defaults |= {
        "enable_model_summary": False,
        "log_every_n_steps": 1,
        "accelerator": "cpu",
        "default_root_dir": folder,
    }
    return Trainer(**defaults | options)
