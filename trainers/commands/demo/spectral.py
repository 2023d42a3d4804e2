"""The demonstration's spectral part: GLMHA and its full-attention twin learn 31 bands from RGB, under one budget."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib as mpl
import torch
from matplotlib.figure import Figure
from rich.console import Console, Group, RenderableType
from torch import Tensor, nn

from datamodules import SpectralDemoDataModule
from datamodules.demo.spectra import WAVELENGTHS
from datamodules.files.atomic import atomic_file
from datamodules.files.images import to_array
from glmha import load_pretrained
from glmha.complexity import count
from trainers.metrics.hyperspectral import MRAE, RMSE, SAM, CubePSNR
from trainers.recipes.lightning_cli import fit
from trainers.reports.profiling import check_counts, profile, timed, training_step
from trainers.reports.tables import NAME_COLUMN, Column, labelled, results_table, write_results
from trainers.tiling.restoration import restore

RECIPES = {"CSA": "demo/mst_plus_plus_csa.yaml", "GLMHA": "demo/mst_plus_plus_glmha.yaml"}
BATCH = 8
STEP_SHAPE = (BATCH, 3, 32, 32)
MACS_SHAPE = (1, 3, 256, 256)
COLUMNS = (
    NAME_COLUMN,
    Column("MRAE", "mrae", ".4f"),
    Column("RMSE", "rmse", ".4f"),
    Column("PSNR dB", "psnr", ".2f"),
    Column("SAM °", "sam", ".2f"),
    Column("param. M", "parameters", ".3f", 1e-6),
    Column("GMAC 256²", "macs", ".2f", 1e-9),
    Column("ms/step", "step", ".0f", 1e3),
)

# Places of the plotted spectra, as shares of the height and the width.
_PLACES = ((0.25, 0.25), (0.5, 0.6), (0.75, 0.4))


@dataclass(frozen=True)
class Row:
    """One line of the part's table; costs are None for the linear map.

    Attributes:
        mrae: mean over the held-out scenes.
        rmse: mean over the held-out scenes.
        psnr: of whole cubes, mean over the held-out scenes, dB.
        sam: spectral angle, mean over the held-out scenes, degrees.
        parameters: number of parameters.
        macs: multiply-adds at 1×3×256×256.
        step: seconds of a training step at 8×3×32×32.
    """

    mrae: float
    rmse: float
    psnr: float
    sam: float
    parameters: float | None = None
    macs: float | None = None
    step: float | None = None


def run_spectral_demo(output: Path = Path("logs/demo/spectral"), *, steps: int = 200) -> RenderableType:
    """Train one stage of MST++ with GLMHA and with full attention to infer spectra from RGB, and compare them.

    Both see the same patches in the same order. The test is of other photographs and of another chart's reflectances
    than training. Beside them stands what needs no network: the best linear map from a pixel's RGB to its spectrum,
    fitted to the same data.

    Args:
        output: folder for logs, checkpoints, `spectra.png` and `metrics.json`.
        steps: training steps of each network, >= 1.

    Returns:
        A table of the linear map, CSA and GLMHA, and the files of the results.

    Raises:
        ValueError: if `steps` is below 1.
    """
    check_counts(steps=steps)
    console = Console(markup=False, emoji=False)
    nets: dict[str, nn.Module] = {}
    for name, recipe in RECIPES.items():
        console.print(f"{name}: {steps} steps from scratch, {recipe}")
        nets[name] = train(recipe, name, output, steps)
    data = SpectralDemoDataModule()
    data.setup("test")
    batches = [batch for loader in data.test_dataloader() for batch in loader]
    images = [batch["input"][0] for batch in batches]
    targets = [batch["target"][0] for batch in batches]
    linear = fit_linear_map(data)
    results = {"linear map": [torch.einsum("sc,chw->shw", linear, image) for image in images]}
    for name, net in nets.items():
        results[name] = [restore(net, image, tile=None, overlap=0) for image in images]
    costs = network_costs(nets)
    rows = {name: Row(**score(cubes, targets), **costs.get(name, {})) for name, cubes in results.items()}
    names = [batch["name"][0] for batch in batches]
    draw(output / "spectra.png", images, {"target": targets, **results}, names)
    settings = {
        "protocol": {name: metric.protocol for name, metric in metrics().items()},
        "data": f"{len(targets)} scenes of measured reflectances, on photographs bundled with scikit-image",
        "steps": steps,
        "images": names,
    }
    write_results(output / "metrics.json", settings, {name: asdict(row) for name, row in rows.items()})
    title = f"Spectra from RGB, {len(targets)} scenes of reflectances and photographs not trained on"
    return Group(
        results_table(title, labelled({name: asdict(row) for name, row in rows.items()}), COLUMNS),
        f"spectra of some pixels: {output / 'spectra.png'}\nfigures: {output / 'metrics.json'}",
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
            # One epoch, and one validation at its end.
            f"--data.batch_size={BATCH}",
            f"--data.epoch_length={BATCH * steps}",
            f"--model.scheduler.init_args.total={steps}",
            f"--model.scheduler.init_args.warmup={steps // 15}",
            f"--trainer.logger.init_args.save_dir={output}",
            f"--trainer.logger.init_args.name={name}",
            *options,
        ]
    )
    return load_pretrained(next(folder.glob("**/last.ckpt")))


def fit_linear_map(data: SpectralDemoDataModule) -> Tensor:
    """Fit spectra = map · RGB to an epoch of training patches by least squares: shape (31, 3)."""
    inputs, outputs = [], []
    for batch in data.train_dataloader():
        inputs.append(batch["input"].transpose(0, 1).flatten(1))
        outputs.append(batch["target"].transpose(0, 1).flatten(1))
    pixels, spectra = torch.cat(inputs, 1).double(), torch.cat(outputs, 1).double()
    # Not the default driver: it takes this many equations for dependent ones.
    return torch.linalg.lstsq(pixels.T, spectra.T, driver="gels").solution.T.float()


def metrics() -> dict[str, MRAE | RMSE | CubePSNR | SAM]:
    """Return the metrics by the names of the row's attributes."""
    return {"mrae": MRAE(), "rmse": RMSE(), "psnr": CubePSNR(), "sam": SAM()}


def score(cubes: list[Tensor], targets: list[Tensor]) -> dict[str, float]:
    """Mean of every metric over cubes (31, H, W) of any sizes."""
    measured = metrics()
    for cube, target in zip(cubes, targets, strict=True):
        for metric in measured.values():
            metric.update(cube.unsqueeze(0), target.unsqueeze(0))
    return {name: float(metric.compute()) for name, metric in measured.items()}


def network_costs(nets: dict[str, nn.Module]) -> dict[str, dict[str, float]]:
    """Costs of the networks, timed in turn on the same inputs."""
    patches = torch.rand(STEP_SHAPE, generator=torch.Generator().manual_seed(0))
    steps = profile([timed({name: (training_step, net, patches) for name, net in nets.items()})], repeats=5)
    counts = {name: count(net, MACS_SHAPE) for name, net in nets.items()}
    return {
        name: {"parameters": counts[name].parameters, "macs": counts[name].macs, "step": steps[name]["seconds"]}
        for name in nets
    }


def draw(path: Path, images: list[Tensor], cubes: dict[str, list[Tensor]], names: list[str]) -> None:
    """Write a sheet: a row for every scene, its photograph, and the spectra of the pixels marked in it."""
    with mpl.rc_context({"font.size": 8}):
        figure = Figure(figsize=(3 * (1 + len(_PLACES)), 2.6 * len(names)), layout="constrained")
        axes = figure.subplots(len(names), 1 + len(_PLACES), squeeze=False)
        for row, image in enumerate(images):
            photograph = axes[row][0]
            photograph.imshow(to_array(image))
            photograph.set_title(names[row])
            photograph.set_axis_off()
            for column, place in enumerate(_PLACES, start=1):
                y, x = (int(share * side) for share, side in zip(place, image.shape[-2:], strict=True))
                photograph.annotate(str(column), (x, y), color="white", arrowprops={"arrowstyle": "-"})
                axis = axes[row][column]
                for name, kind in cubes.items():
                    axis.plot(WAVELENGTHS, kind[row][:, y, x], label=name, color="black" if name == "target" else None)
                axis.set_title(f"pixel {column}")
                axis.set_ylim(bottom=0)
        axes[0][1].legend()
        for axis in axes[-1][1:]:
            axis.set_xlabel("nm")
        with atomic_file(path) as file:
            figure.savefig(file, dpi=100, format="png")
