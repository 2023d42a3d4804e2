"""The task that every other one evaluates with: a network, its metrics and tiles, and a report of every score."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from numpy.typing import NDArray
from torch import Tensor, nn

from nystra.sites import attention_record
from nystra.sites.substitution import find_sites
from trainers.checkpoints.lookup import log_folder
from trainers.checkpoints.run_checkpoint import read_run_checkpoint
from trainers.devices.sharding import FullySharded, shard
from trainers.evaluation.data_sets import data_module, data_sets, expected_images, scored_frames
from trainers.evaluation.provenance import current_seed
from trainers.evaluation.scores import Evaluation, ImageScore, gather
from trainers.metrics.base import ImageMetric
from trainers.tasks.clip_scores import clip_score
from trainers.tasks.compatibility import check_shapes, initialise
from trainers.tiling.clips import ClipTiles
from trainers.tiling.layout import tile_side

Batch = Mapping[str, Any]
"""`input` (B, C, H, W) and `target` (B, C', H', W'), float32 in [0, 1]; `name`, B strings. Of clips both are
(B, T, C, H, W)."""


class EvaluationTask(LightningModule, ABC):
    """Evaluates a network that maps what a camera saw to what it should have seen, at any image size.

    A subclass defines how the network is called on whole images, and what is drawn and saved of them.

    Args:
        net: (B, C, H, W) → (B, C', H', W'); None: the network whose weights `pretrained` holds.
        metrics: of validation and test, each with another name; None: the task's default metrics.
        pretrained: checkpoint of the weights, loaded strictly: a file, a name of `lowrank models`, or an address; None:
            the weights stay as they are in `net`.
        tile: largest side in pixels of what the network sees at once; None: whole images.
        overlap: pixels that neighbouring tiles share at least.
        logged_images: images of each validation set that are shown in TensorBoard.
        self_ensemble: average over the eight flips and quarter turns, outside training; eight times the time.
        clips: how clips are restored in time; None: each as a whole.

    Attributes:
        save_tests: whether a test saves what it restores, as a prediction does.

    Raises:
        ValueError: if neither `net` nor `pretrained` is given, they do not fit together, or two metrics have one name.
        CheckpointError: if `pretrained` cannot be read.
    """

    save_tests = False

    def __init__(
        self,
        net: nn.Module | None = None,
        *,
        metrics: Sequence[ImageMetric] | None = None,
        pretrained: str | Path | None = None,
        tile: int | None = None,
        overlap: int = 48,
        logged_images: int = 4,
        self_ensemble: bool = False,
        clips: ClipTiles | None = None,
    ) -> None:
        super().__init__()
        self.net = initialise(net, pretrained)
        metrics = self.default_metrics() if metrics is None else metrics
        names = [metric.name.lower() for metric in metrics]
        if len(set(names)) < len(names):
            raise ValueError(f"metrics ({', '.join(names)}) must have different names: evaluate one protocol at a time")
        # Not registered as sub-modules: they hold no state between images, and would be copied with the weights.
        self.metrics: dict[str, ImageMetric] = dict(zip(names, metrics, strict=True))
        self.pretrained = pretrained
        self.tile = tile
        self.overlap = overlap
        self.logged_images = logged_images
        self.self_ensemble = self_ensemble
        self.clips = ClipTiles() if clips is None else clips
        self._scores: list[ImageScore] = []

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]  # checkpoints hold no hyper-parameters to choose from
        cls, checkpoint_path: Path | str, map_location: torch.device | str | None = None, **options: Any
    ) -> Self:
        """Make a task with the network, the weights, the windows and the kernels of a run's checkpoint.

        Checkpoints do not hold a task's arguments. The network is inferred from the checkpoint, or given as `net`; the
        other arguments, such as loss, optimiser and metrics, have their defaults where they are not given.

        Args:
            checkpoint_path: checkpoint of a run.
            map_location: device of the task; None: the CPU.
            **options: arguments of the task. A `net` may be of any class, if it is the one that was trained.

        Returns:
            The task, with its network in the state of the checkpoint.

        Raises:
            CheckpointError: if the file cannot be read, or holds no network of this package and `net` is not given.
            ValueError: if `net` has other tensors, windows or kernels than the checkpoint.

        Examples:
            A run from Python, and its network again:

                finished = trainers.run(task, data, name="mine", max_steps=500)
                task = trainers.RestorationTask.load_from_checkpoint(finished.folder / "checkpoints/last.ckpt")
        """
        path = Path(checkpoint_path)
        if options.get("net") is None:
            task = cls(**{**options, "pretrained": path})
        else:
            task = cls(**options)
            checkpoint = read_run_checkpoint(path)
            task.on_load_checkpoint(checkpoint)
            task.load_state_dict(checkpoint["state_dict"])
        return task if map_location is None else task.to(map_location)

    @abstractmethod
    def default_metrics(self) -> Sequence[ImageMetric]:
        """Make the metrics of a task that is given none."""

    @abstractmethod
    def restore(self, batch: Batch) -> list[Tensor]:
        """Call the network on whole images, which are on the CPU: each (C', H', W'), on the CPU."""

    @abstractmethod
    def draw(self, image: Tensor, restored: Tensor, target: Tensor, *, name: str) -> NDArray[np.uint8]:
        """Draw one image of a validation for TensorBoard: (H, W, 3)."""

    @abstractmethod
    def save(self, restored: Tensor, folder: Path, name: str) -> None:
        """Save one restored image in a folder under a name without suffix."""

    @property
    def ensembles(self) -> bool:
        """Whether whole images are restored by the self-ensemble now: not in the validations of training."""
        return self.self_ensemble and self.trainer.state.fn != TrainerFn.FITTING

    @property
    def evaluation_autocast(self) -> torch.dtype | None:
        """The precision that the trainer asked for; code that opens another autocast region has to pass it on."""
        device = self.device.type
        return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None

    def configure_model(self) -> None:
        """Shard the network where the strategy is made for that.

        Raises:
            ValueError: if several devices are to evaluate it in tiles.
        """
        if isinstance(self.trainer.strategy, FullySharded):
            if self.tile is not None and self.trainer.world_size > 1:
                # Each call of the network gathers its weights from all devices, whose images have not as many tiles.
                raise ValueError(
                    f"tile ({self.tile}) must be null with strategy fully_sharded on several devices: leave it out, or "
                    "evaluate on one device or with --trainer.strategy ddp"
                )
            shard(self.net, self.trainer.strategy.device_mesh["data_parallel"])

    def on_validation_epoch_start(self) -> None:
        """Forget the scores of the last validation."""
        self._scores = []

    def on_test_epoch_start(self) -> None:
        """Forget the scores of the last test."""
        self._scores = []

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Any]:
        """Restore and score the images of a batch; `restored` is for callbacks that show them."""
        return self._evaluate(batch, list(data_sets(self.trainer, "val"))[dataloader_idx])

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Any]:
        """Restore and score the images of a batch."""
        return self._evaluate(batch, list(data_sets(self.trainer, "test"))[dataloader_idx])

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> list[Tensor]:
        """Restore the images of a batch, each (C', H', W')."""
        return self.restore(batch)

    def on_validation_epoch_end(self) -> None:
        """Log the means; outside training, also report every score."""
        evaluation = self._conclude("val")
        if self.trainer.state.fn == TrainerFn.VALIDATING:
            self._report(evaluation)

    def on_test_epoch_end(self) -> None:
        """Log the means, print the table and write metrics.json."""
        self._report(self._conclude("test"))

    def _evaluate(self, batch: Batch, data_set: str) -> dict[str, Any]:
        restored = self.restore(batch)
        self._scores += self.score(restored, batch, data_set)
        return {"restored": restored}

    def score(self, restored: Sequence[Tensor], batch: Batch, data_set: str) -> list[ImageScore]:
        """Measure the restored images of a batch by every metric; of a clip the mean over its scored frames counts.

        Args:
            restored: each (C', H', W') or (T, C', H', W'), on the CPU.
            batch: with their targets and names.
            data_set: name of the images' set.

        Returns:
            The scores of each image or clip.

        Raises:
            ValueError: if an image has another shape than its target, or a metric cannot measure it.
        """
        scores = []
        for image, target, name in zip(restored, batch["target"].cpu(), batch["name"], strict=True):
            check_shapes(image, target)
            try:
                if image.ndim == 4:
                    numbers = scored_frames(data_module(self.trainer), len(image))
                    scores.append(clip_score(self.metrics, image, target, numbers, data_set=data_set, name=name))
                    continue
                pair = image.to(target)[None], target[None]
                values = {key: metric.measure(*pair).item() for key, metric in self.metrics.items()}
            except ValueError as error:
                error.add_note(f"This was image {name} of {data_set}.")
                raise
            scores.append(ImageScore(data_set, name, values))
        return scores

    def _conclude(self, stage: Literal["val", "test"]) -> Evaluation:
        evaluation = Evaluation(
            gather(self._scores),
            {key: metric.protocol for key, metric in self.metrics.items()},
            expected_images(self.trainer, stage),
            {key: bool(metric.higher_is_better) for key, metric in self.metrics.items()},
        )
        means = evaluation.means()
        if len(means) > 1:
            values = {f"{stage}/{name}/{key}": mean[key] for name, mean in means.items() for key in mean}
            self.log_dict(values, sync_dist=True)
        for index, (key, value) in enumerate(evaluation.average().items()):
            self.log(f"{stage}/{key}", value, prog_bar=index == 0, sync_dist=True)
        if stage == "test":
            self.log("test/partial", float(evaluation.partial), sync_dist=True)
        return evaluation

    def _report(self, evaluation: Evaluation) -> None:
        folder = log_folder(self.trainer)
        if self.trainer.is_global_zero:
            data = data_module(self.trainer)
            weights = self.trainer.ckpt_path or self.pretrained
            evaluation.report(
                folder,
                data=None if data is None else type(data).__name__,
                weights=weights,
                seed=current_seed(),
                settings={
                    # Taken in this process, since the weights were read or initialised.
                    "trained_steps": 0 if self.trainer.ckpt_path else self.trainer.global_step,
                    "tile": tile_side(self.net, self.tile),
                    "overlap": None if self.tile is None else self.overlap,
                    "self_ensemble": self.ensembles,
                    **({"clips": asdict(self.clips)} if evaluation.of_clips else {}),
                    "attention": _attention(self.net),
                    "precision": self.trainer.precision,
                    "device": self.device.type,
                },
            )


def _attention(net: nn.Module) -> dict[str, Any]:
    """Windows and kernels of a network's window attentions; empty where they are as released."""
    try:
        return attention_record.record(net)
    except ValueError:
        # A kernel of another package is evaluated like any, though no checkpoint can hold it.
        return {"kernels": {name: str(site.kernel) for name, site in find_sites(net).items()}}
