"""The task of spectra: what nets are given, how images are evaluated, what is kept."""

import functools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from datamodules import CASSIDataModule, NTIRE2022DataModule
from datamodules.cassi import initial_estimate, measure, shift
from datamodules.files.cubes import read_cube, read_mask
from datamodules.files.images import read_image
from glmha import GLMHA, MST, CassiMSTPlusPlus, MSTPlusPlus, RealMST
from tests.spectral_data import write_arad, write_cassi
from trainers import SpectralTask
from trainers.losses import MRAELoss, RootMSELoss
from trainers.metrics import MRAE, BandPSNR

pytestmark = pytest.mark.filterwarnings(
    "ignore:`isinstance.treespec, LeafSpec.` is deprecated",  # within Lightning
    "ignore:The '.*_dataloader' does not have many workers",  # tests need none
)

Lowrank = Callable[..., int]

# The smallest nets of 28 and 31 bands.
SMALL_MST = {"stage": 1, "num_blocks": [1, 1]}


@pytest.fixture
def cassi(tmp_path: Path) -> Path:
    return write_cassi(tmp_path / "cassi")


@pytest.fixture
def arad(tmp_path: Path) -> Path:
    return write_arad(tmp_path / "arad")


def trainer(folder: Path, **options: object) -> Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "log_every_n_steps": 1}
    return Trainer(
        **quiet | {"enable_model_summary": False, "accelerator": "cpu", "default_root_dir": folder} | options
    )


def recipe(folder: Path, net: str, net_args: str, data: str, root: Path, data_args: str = "", bands: int = 28) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(f"""
seed_everything: 1
trainer:
  accelerator: cpu
  max_steps: 2
  log_every_n_steps: 1
  enable_progress_bar: false
  limit_val_batches: 1
  val_check_interval: 2
  check_val_every_n_epoch: null
  logger: {{class_path: lightning.pytorch.loggers.TensorBoardLogger, init_args: {{save_dir: logs, name: run}}}}
model:
  class_path: trainers.SpectralTask
  init_args:
    net: {{class_path: glmha.{net}, init_args: {{{net_args}}}}}
    optimizer: {{class_path: torch.optim.Adam, init_args: {{lr: 1.0e-3}}}}
best_checkpoint: {{monitor: val/mrae, mode: min}}
data:
  class_path: datamodules.{data}
  init_args: {{root: {root}, patch_size: 16, batch_size: 2, num_workers: 0{data_args}}}
""")
    return path


NETS = [
    ("MST", "stage: 1, num_blocks: [1, 1], attention: glmha.GLMHA", ""),
    ("CassiMSTPlusPlus", "stage: 1", ", net_mask: plain"),
    ("RealMST", "stage: 1, num_blocks: [1, 1]", ", net_input: measurement, net_mask: none"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("net", "net_args", "data_args"), NETS, ids=[row[0] for row in NETS])
def test_every_cassi_net_trains_tests_and_predicts(lowrank: Lowrank, tmp_path, cassi, net, net_args, data_args):
    config = recipe(tmp_path, net, net_args, "CASSIDataModule", cassi, f", epoch_length: 4{data_args}")
    assert lowrank("fit", "--config", config) == 0
    [last] = Path.cwd().rglob("last.ckpt")
    assert lowrank("validate", "--config", config, "--ckpt_path", last) == 0
    assert lowrank("test", "--config", config, "--ckpt_path", last) == 0
    assert lowrank("predict", "--config", config, "--ckpt_path", last) == 0
    images = next(Path.cwd().rglob("images/KAIST"))
    assert {path.name for path in images.iterdir()} == {"scene01.mat", "scene01.png", "scene02.mat", "scene02.png"}


def test_rgb_trains_tests_and_predicts_and_shows_bands(lowrank: Lowrank, tmp_path, arad):
    config = recipe(tmp_path, "MSTPlusPlus", "stage: 1", "NTIRE2022DataModule", arad)
    assert lowrank("fit", "--config", config) == 0
    events = EventAccumulator(str(next(Path.cwd().rglob("events.*"))))
    events.Reload()
    assert {"train/loss", "val/mrae", "val/rmse", "val/psnr-cube"} <= set(events.Tags()["scalars"])
    assert events.Tags()["images"] == ["val/ARAD_1K-valid/ARAD_1K_0901"]
    [image] = events.Images("val/ARAD_1K-valid/ARAD_1K_0901")
    # False colours and five bands, each of output, target and difference over their captions.
    assert (image.width, image.height) == (6 * 192, 3 * (144 + 20))
    [last] = Path.cwd().rglob("last.ckpt")
    options = ["--config", config, "--ckpt_path", last, "--model.cube_format", "npz"]
    assert lowrank("test", *options, "--model.save_tests", "true") == 0
    record = json.loads(next(Path.cwd().rglob("metrics.json")).read_text())
    scores = record["sets"]["ARAD_1K-valid"]["per_image"]
    cube = np.load(next(Path.cwd().rglob("images/ARAD_1K-valid/ARAD_1K_0902.npz")))["cube"]
    target = read_cube(arad / "Train_Spec/ARAD_1K_0902.mat")
    # What is saved is what was measured.
    assert (np.abs(cube - target) / target).mean() == pytest.approx(scores["ARAD_1K_0902"]["mrae"], rel=1e-5)
    assert lowrank("predict", *options) == 0
    picture = read_image(next(Path.cwd().rglob("images/ARAD_1K-test/ARAD_1K_0951.png")))
    assert picture.shape == (24, 32, 3)


def test_tests_are_not_saved_unless_asked_for(lowrank: Lowrank, tmp_path, arad):
    config = recipe(tmp_path, "MSTPlusPlus", "stage: 1", "NTIRE2022DataModule", arad)
    assert lowrank("test", "--config", config) == 0
    assert not list(Path.cwd().rglob("images"))


def test_mst_is_called_with_the_snapshot_and_its_mask(tmp_path, cassi):
    torch.manual_seed(0)
    net = MST(**SMALL_MST, attention=functools.partial(GLMHA, reduction=0.5))
    data = CASSIDataModule(cassi, patch_size=16, batch_size=2, num_workers=0, epoch_length=4)
    task = SpectralTask(net=net, loss=RootMSELoss(), metrics=[BandPSNR()], save_tests=True)
    assert data.trainer is None
    [results] = [trainer(tmp_path).predict(task, data)]
    mask = torch.from_numpy(read_mask(cassi / "TSA_simu_data/mask.mat"))
    for number, [result] in enumerate(results, start=1):
        scene = read_cube(cassi / f"TSA_simu_data/Truth/scene{number:02}.mat").transpose(2, 0, 1).astype(np.float32)
        seen = initial_estimate(measure(torch.from_numpy(scene), mask), 28)[None]
        with torch.no_grad():
            expected = net.eval()(seen, shift(mask.expand(1, 28, 16, 16)))
        torch.testing.assert_close(result, expected[0])
        with torch.no_grad():
            assert not torch.allclose(net(seen), expected, atol=1e-4)


class Pixelwise(nn.Module):
    """Any image size; remembers what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 31, 1)
        self.seen: set[tuple[int, ...]] = set()

    def forward(self, image: Tensor) -> Tensor:
        self.seen.add(tuple(image.shape[-2:]))
        return self.mix(image).sigmoid()


@pytest.mark.parametrize(("tile", "seen"), [(None, {(24, 32)}), (16, {(16, 16)})])
def test_rgb_is_evaluated_whole_or_in_tiles(tmp_path, arad, tile, seen):
    net = Pixelwise()
    data = NTIRE2022DataModule(arad, num_workers=0)
    trainer(tmp_path).test(SpectralTask(net=net, tile=tile, overlap=8), data, verbose=False)
    assert net.seen == seen


def test_default_loss_and_metrics_are_the_challenge_s():
    task = SpectralTask(net=Pixelwise())
    assert isinstance(task.loss, MRAELoss)
    assert list(task.metrics) == ["mrae", "rmse", "psnr-cube"]
    assert task.metrics["mrae"].protocol == MRAE().protocol


def test_tiles_of_snapshots_are_refused(tmp_path, cassi):
    data = CASSIDataModule(cassi, num_workers=0)
    with pytest.raises(ValueError, match=r"tile \(8\) must be null for snapshots"):
        trainer(tmp_path).test(SpectralTask(net=MST(**SMALL_MST), tile=8), data, verbose=False)


def test_nets_and_data_that_disagree_about_a_mask_are_refused(tmp_path, cassi):
    for net, mask, message in (
        (MSTPlusPlus(28, 28, 28, 1), "plain", r"net \(MSTPlusPlus\) must take a mask, because the data have one"),
        (CassiMSTPlusPlus(stage=1), "none", r"net \(CassiMSTPlusPlus\) must be given a mask, got data without one"),
    ):
        data = CASSIDataModule(cassi, patch_size=16, batch_size=2, num_workers=0, epoch_length=4, net_mask=mask)
        task = SpectralTask(net=net, metrics=[BandPSNR()])
        with pytest.raises(ValueError, match=message):
            trainer(tmp_path, max_steps=1).fit(task, data)


def test_other_formats_are_refused():
    with pytest.raises(ValueError, match=r"cube_format \(tif\) must be one of mat, npz"):
        SpectralTask(net=Pixelwise(), cube_format="tif")


class Labels(Dataset):
    """Patches whose labels are black in part."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict[str, object]:
        target = torch.full((31, 8, 8), 0.5)
        target[:, :4] = 0
        return {"input": torch.rand(3, 8, 8), "target": target, "name": f"scene{index}"}


def test_black_labels_do_not_stop_training(tmp_path):
    fit = trainer(tmp_path, max_steps=2)
    fit.fit(SpectralTask(net=Pixelwise()), DataLoader(Labels(), 2), DataLoader(Labels()))
    assert 0 < fit.callback_metrics["train/loss"] < 1
    assert 0 < fit.callback_metrics["val/mrae"] < 1


def test_real_data_s_net_takes_measurements(cassi):
    data = CASSIDataModule(cassi, net_input="measurement", net_mask="none", num_workers=0)
    data.setup("test")
    batch = next(iter(data.test_dataloader()[0]))
    assert batch["input"].shape == (1, 16, 16 + 54)
    [cube] = SpectralTask(net=RealMST(**SMALL_MST)).restore(batch)
    assert cube.shape == (28, 16, 16)
