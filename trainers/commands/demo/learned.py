"""The demonstration's learned part: GLMHA and its full-attention twin learn to remove rain, under one budget."""

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib as mpl
import torch
from matplotlib.figure import Figure
from rich.console import Console, Group, RenderableType
from torch import Tensor, nn

from datamodules import DemoDataModule
from datamodules.files.atomic import atomic_file
from datamodules.files.images import to_array
from glmha import load_pretrained
from glmha.complexity import count
from trainers.metrics.psnr_ssim import PSNR, SSIM, psnr
from trainers.recipes.lightning_cli import fit
from trainers.reports.profiling import Call, check_counts, inference, profile, timed, training_step
from trainers.reports.tables import NAME_COLUMN, Column, labelled, results_table, write_results
from trainers.tiling.restoration import restore

RECIPES = {"CSA": "demo/restormer_csa.yaml", "GLMHA": "demo/restormer_glmha.yaml"}
BATCH = 4
STEP_SHAPE = (BATCH, 3, 64, 64)
MACS_SHAPE = (1, 3, 256, 256)
BFLOAT16_SIDE = 64
COLUMNS = (
    NAME_COLUMN,
    Column("PSNR dB", "psnr", ".2f"),
    Column("SSIM", "ssim", ".4f"),
    Column("param. M", "parameters", ".3f", 1e-6),
    Column("GMAC 256²", "macs", ".2f", 1e-9),
    Column("ms/step", "step", ".0f", 1e3),
    Column("ms/image", "image", ".0f", 1e3),
    Column("step MiB", "memory", ".0f", 2**-20),
)


@dataclass(frozen=True)
class Row:
    """One line of the demonstration's table; costs are None for the input.

    Attributes:
        psnr: RGB, uint8, mean over the held-out images, dB.
        ssim: RGB, uint8, mean over the held-out images.
        parameters: number of parameters.
        macs: multiply-adds at 1×3×256×256.
        step: seconds of a training step at 4×3×64×64.
        image: seconds of the first held-out image.
        memory: bytes by which a training step raises the process's resident memory.
    """

    psnr: float
    ssim: float
    parameters: float | None = None
    macs: float | None = None
    step: float | None = None
    image: float | None = None
    memory: float | None = None


def run_learned_demo(output: Path = Path("logs/demo/learned"), *, steps: int = 250) -> RenderableType:
    """Train a small Restormer with GLMHA and with full attention on synthetic rain and compare them.

    Both see the same patches of real photographs in the same order; photographs of the test were never trained on.

    Args:
        output: folder for logs, checkpoints, `comparison.png` and `metrics.json`.
        steps: training steps of each network, >= 1.

    Returns:
        A table of the input, CSA and GLMHA, and the files of the results.

    Raises:
        ValueError: if `steps` is below 1.
    """
    check_counts(steps=steps)
    console = Console(markup=False, emoji=False)
    nets: dict[str, nn.Module] = {}
    for name, recipe in RECIPES.items():
        console.print(f"{name}: {steps} steps from scratch, {recipe}")
        nets[name] = train(recipe, name, output, steps)
    data = DemoDataModule()
    data.setup("test")
    batches = [batch for loader in data.test_dataloader() for batch in loader]
    results = {"input": [batch["input"][0] for batch in batches]}
    for name, net in nets.items():
        results[name] = [restore(net, image, tile=None, overlap=0) for image in results["input"]]
    targets = [batch["target"][0] for batch in batches]
    half = {name: bfloat16_change(net, results["input"], targets) for name, net in nets.items()}
    costs = network_costs(nets, results["input"][0].unsqueeze(0))
    rows = {name: Row(**score(images, targets), **costs.get(name, {})) for name, images in results.items()}
    names = [batch["name"][0] for batch in batches]
    draw(output / "comparison.png", {**results, "target": targets}, targets, names)
    settings = {
        "protocol": {"psnr": PSNR().protocol, "ssim": SSIM().protocol},
        "data": f"{len(targets)} rainy images cut from held-out photographs bundled with scikit-image",
        "steps": steps,
        "images": names,
        "psnr_change_in_bfloat16": half,
    }
    write_results(output / "metrics.json", settings, {name: asdict(row) for name, row in rows.items()})
    title = f"Rain removal, {len(targets)} images of held-out photographs (PSNR and SSIM: RGB, uint8)"
    changes = ", ".join(f"{name} {decibels:+.3f} dB" for name, decibels in half.items())
    return Group(
        results_table(title, labelled({name: asdict(row) for name, row in rows.items()}), COLUMNS),
        f"network in bfloat16 instead of float32, middle {BFLOAT16_SIDE}×{BFLOAT16_SIDE} pixels: {changes}",
        f"pictures side by side: {output / 'comparison.png'}\nfigures: {output / 'metrics.json'}",
    )


def train(recipe: str, name: str, output: Path, steps: int, options: Sequence[str] = ()) -> nn.Module:
    """Train one of the small networks and load it.

    Args:
        recipe: of the network.
        name: of its log folder.
        output: folder for that.
        steps: of training.
        options: further ones of `lowrank fit`, which come first.
    """
    folder = fit(
        [
            f"--config={recipe}",
            f"--trainer.max_steps={steps}",
            # In a few minutes more steps of smaller batches learn more than fewer of the recipe's.
            f"--data.batch_size={BATCH}",
            f"--data.epoch_length={BATCH * steps}",
            f"--model.scheduler.init_args.T_max={steps}",
            f"--trainer.logger.init_args.save_dir={output}",
            f"--trainer.logger.init_args.name={name}",
            # The recipe's first validation would come after the last step: one epoch, and one at its end.
            "--trainer.check_val_every_n_epoch=1",
            *options,
        ]
    )
    return load_pretrained(next(folder.glob("**/last.ckpt")))


def score(images: list[Tensor], targets: list[Tensor]) -> dict[str, float]:
    """Mean PSNR and SSIM of images (C, H, W) of any sizes."""
    metrics = {"psnr": PSNR(), "ssim": SSIM()}
    for image, target in zip(images, targets, strict=True):
        for metric in metrics.values():
            metric.update(image.unsqueeze(0), target.unsqueeze(0))
    return {name: float(metric.compute()) for name, metric in metrics.items()}


def bfloat16_change(net: nn.Module, images: list[Tensor], targets: list[Tensor]) -> float:
    """Measure the change of mean PSNR, dB, where weights, input and output of a network are bfloat16.

    It is measured on the middle of every image, because most CPUs compute bfloat16 convolutions ten times slower.
    """
    crops = [crop_centre(image, BFLOAT16_SIDE) for image in images]
    references = [crop_centre(target, BFLOAT16_SIDE) for target in targets]
    means = {}
    for dtype in (torch.float32, torch.bfloat16):
        copied = copy.deepcopy(net).to(dtype)
        with torch.inference_mode():
            restored = [copied(crop.unsqueeze(0).to(dtype)).squeeze(0).float() for crop in crops]
        means[dtype] = score(restored, references)["psnr"]
    return means[torch.bfloat16] - means[torch.float32]


def crop_centre(image: Tensor, side: int) -> Tensor:
    """Cut the middle of an image (C, H, W): (C, side, side)."""
    top, left = (image.shape[1] - side) // 2, (image.shape[2] - side) // 2
    return image[:, top : top + side, left : left + side]


def network_costs(nets: dict[str, nn.Module], image: Tensor) -> dict[str, dict[str, float]]:
    """Costs of the networks, timed in turn on the same inputs."""
    patches = torch.rand(STEP_SHAPE, generator=torch.Generator().manual_seed(0))
    calls: dict[str, Call] = {name: (training_step, net, patches) for name, net in nets.items()}
    steps = profile([timed(calls)], repeats=5, memory=calls)
    images = profile([timed({name: (inference, net, image) for name, net in nets.items()})], repeats=5)
    counts = {name: count(net, MACS_SHAPE) for name, net in nets.items()}
    return {
        name: {
            "parameters": counts[name].parameters,
            "macs": counts[name].macs,
            "step": steps[name]["seconds"],
            "image": images[name]["seconds"],
            "memory": steps[name]["bytes"],
        }
        for name in nets
    }


def draw(path: Path, columns: dict[str, list[Tensor]], targets: list[Tensor], names: list[str]) -> None:
    """Write a sheet: a row for every image, a column for every result, captioned with its PSNR."""
    with mpl.rc_context({"font.size": 8}):
        figure = Figure(figsize=(3 * len(columns), 3 * len(names)), layout="constrained")
        axes = figure.subplots(len(names), len(columns), squeeze=False)
        for column, (title, images) in enumerate(columns.items()):
            for row, image in enumerate(images):
                axis = axes[row][column]
                axis.imshow(to_array(image))
                axis.set_axis_off()
                if title == "target":
                    axis.set_title(f"{names[row]}: target")
                else:
                    decibels = psnr(image.unsqueeze(0), targets[row].unsqueeze(0), space="rgb", border=0, quantise=True)
                    axis.set_title(f"{title} {decibels.item():.2f} dB")
        with atomic_file(path) as file:
            figure.savefig(file, dpi=100, format="png")
