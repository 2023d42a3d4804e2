"""Stand-ins for what is slow in the verbs of `lowrank`: they note the calls that are made of them."""

import functools
import inspect
import json
import re
from collections.abc import Callable
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import glmha
import nystra
from datamodules.files.images import write_image
from glmha.complexity import Complexity
from nystra.hosts.swinir.network import SwinIR
from nystra.sites.host import WindowHost
from tests.datamodules.files import pictures
from tests.trainers.small_networks import restormer, swinir
from trainers.evaluation.scores import Evaluation, ImageScore
from trainers.reproduction.channel_tables import PublishedTable
from trainers.reproduction.miniatures import MiniatureRow, MiniatureTable


class Recorder:
    """Notes calls instead of making them, and returns what the caller needs to go on."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __call__(self, name: str, answer: Callable[..., Any] = lambda *_, **__: None) -> Callable[..., Any]:
        """Stand in for a function of that name."""

        def call(*args: Any, **options: Any) -> Any:
            self.calls.append(f"{name}{[described(value) for value in (*args, *sorted(options.items()))]}")
            return answer(*args, **options)

        return call


def described(value: Any) -> str:
    """What a value is, without where it lies in memory."""
    if isinstance(value, torch.Tensor):
        return f"{tuple(value.shape)} {value.dtype} {value.double().sum().item()}"
    if isinstance(value, dict):
        return str({str(key): described(entry) for key, entry in value.items()})
    if isinstance(value, list | tuple | set):
        return str([described(entry) for entry in value])
    if isinstance(value, nn.Module):
        return f"{type(value).__name__} {sum(each.double().sum().item() for each in value.parameters())}"
    if isinstance(value, functools.partial):
        return described([value.func, value.args, value.keywords])
    if inspect.isgenerator(value):
        return "some"
    if callable(value) and not isinstance(value, nystra.Kernel):
        return getattr(value, "__name__", type(value).__name__)
    return re.sub(r" at 0x\w+", "", str(value))


class Convolution(nn.Module):
    """A network whose results depend on precision, tiles and flips, and on the name of its checkpoint."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.size_multiple = 8
        torch.manual_seed(seed)
        self.convolution = nn.Conv2d(3, 3, 9, padding=4)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.convolution(image)


class Gained(SwinIR):
    """A small network whose results depend on a number."""

    def __init__(self, gain: float, window_size: int = 4, img_size: int = 8) -> None:
        torch.manual_seed(0)
        super().__init__(img_size=img_size, window_size=window_size, embed_dim=8, depths=[2], num_heads=[2])
        scaled(self, gain)


def scaled(net: nn.Module, gain: float) -> nn.Module:
    """A network with other weights."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(gain)
    return net


class Hub:
    """Notes what is pushed to a model hub; the folder that it lies in has another name each time."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    def create_repo(self, repository: str, **options: Any) -> None:
        self.recorder("create_repo")(repository, **options)

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> None:
        self.recorder("upload_folder")(repo_id, Path(folder_path, "README.md").read_text(), commit_message)


def write_inputs(folder: Path) -> None:
    """Write what the verbs read."""
    rng = np.random.default_rng(0)
    for name in ("in/a", "in/b", "target/a", "target/b", "full/a"):
        write_image(folder / f"{name}.png", rng.integers(0, 256, (40, 44, 3), np.uint8))
    camera = pictures.by_pillow(pictures.pixels(), "JPEG", exif=pictures.exif())
    (folder / "camera.jpg").write_bytes(camera)
    for name, gain, images in (("first", 1, "abcd"), ("second", 2, "abcd"), ("third", 3, "cd")):
        scores = [ImageScore("set", i, {"psnr": 20.0 + gain * ord(i), "ssim": ord(i) / gain}) for i in images]
        evaluation = Evaluation(scores, {"psnr": "P", "ssim": "S"}, {"set": len(images)}, {})
        evaluation.report(folder / name, data=None, weights=None, seed=None)
    kernel = {"scores": {"psnr": 30.0}, "seconds": 1.0, "macs": 2e9, "fidelity": 40.0}
    variants = {"released": {"scores": {"psnr": 31.0}, "seconds": 2.0, "macs": 4e9}, "Nystrom(4)": kernel}
    (folder / "compare.json").write_text(json.dumps({"protocol": {"psnr": "P"}, "variants": variants}))
    about = {"windows": 1, "heads": 1, "channels": 1, "bias": False, "device": "cpu"}
    for window in (8, 16, 32):
        timed = {"window": window, "results": {"Softmax()": {"seconds": float(window)}}}
        (folder / f"tokens{window}.json").write_text(json.dumps(about | timed))
    (folder / "bench.json").write_text(json.dumps({"results": {"Nystrom(4), float32": {"seconds": 0.5}}}))


def named_network(path: object, network: str | None = None, **options: object) -> nn.Module:
    return Convolution(len(f"{path}{network or ''}"))


def channel_network(path: object) -> nn.Module:
    if "glmha" not in str(path):
        return named_network(path)
    return scaled(restormer(glmha.GLMHA), len(str(path)) / 10)


# What a graph's export tells of it.
EXPORTED = SimpleNamespace(
    path="a.onnx",
    format="onnx",
    description=SimpleNamespace(
        family="SwinIR", precision="float32", size=None, size_multiple=8, least=16, value_range=(0, 1)
    ),
    sizes=[(1, 16, 24)],
    difference=0.0,
)


class Served(nullcontext):
    """A server that has nothing to do."""

    address = "http://127.0.0.1/"

    def __init__(self, *_: object) -> None:
        super().__init__(self)

    def serve_forever(self) -> None:
        """Return at once."""


def timings(groups: Any, **_: object) -> dict[str, dict[str, float]]:
    return {name: {"seconds": 1.0, "bytes": 1.0} for group in groups for name in group}


def some_samples(data: object, images: int | None) -> tuple[list[dict[str, Any]], int]:
    image = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    return [{"input": image, "target": image / 2, "name": str(name)} for name in range(images or 2)], 2


def spectrum_of(net: nn.Module, images: Any) -> dict[str, torch.Tensor]:
    return {"": torch.stack([image.mean() for image in images])}


def install(patch: pytest.MonkeyPatch) -> Recorder:
    """Put stand-ins in the place of all that takes time, a network or a data set."""
    recorder = Recorder()

    def replace(module: str, **answers: Callable[..., Any]) -> None:
        for name, answer in answers.items():
            patch.setattr(import_module(f"trainers.commands.{module}"), name, recorder(name, answer))

    def nothing(*_: object, **__: object) -> None:
        return None

    patch.setattr(torch, "set_num_threads", recorder("set_num_threads"))
    patch.setattr(torch, "compile", recorder("compile", lambda call, **_: call))
    for module in ("bench.networks", "bench.attention", "bench.windows"):
        replace(module, profile=timings, write_results=nothing)
    replace("bench.networks", build=named_network, load_baseline=lambda *_, **__: Convolution())
    replace("bench.networks", count=lambda *_: SimpleNamespace(parameters=1, macs=1), compiled_blocks=nothing)
    queries = {"map": torch.rand(16, 16, 3, 2, 4, generator=torch.Generator().manual_seed(0))}
    replace("bench.attention", read=lambda *_: queries, draw=nothing)
    replace("bench.gpu", write_results=nothing)
    for module, verb in (
        ("networks", "run_bench"),
        ("windows", "run_bench_windows"),
        ("attention", "run_bench_attention"),
    ):
        measure = recorder(verb, lambda **_: {})
        patch.setattr(
            import_module("trainers.commands.bench.gpu"), module, SimpleNamespace(**{verb: measure}, COLUMNS=())
        )
    replace("bench.loop", time_loop=lambda *_: {}, write_results=nothing)
    enlarge = WindowHost.set_window

    def set_window(net: WindowHost, *args: Any) -> None:
        recorder("set_window")(*args)
        enlarge(net, *args)

    patch.setattr(WindowHost, "set_window", set_window)
    replace("diff", draw_differences=lambda *_, **__: SimpleNamespace(save=nothing))
    replace("bench.windows", published_structure=lambda *_: swinir(), compiled_blocks=lambda net: net)
    makers = {name: functools.partial(Gained, gain=gain) for name, gain in (("small", 1), ("other", 0.5))}
    for module in ("bench.windows", "bench.runtimes"):
        patch.setattr(import_module(f"trainers.commands.{module}"), "NETWORKS", makers)
    writers = dict.fromkeys(("onnx", "openvino"), nothing)
    patch.setattr(import_module("trainers.commands.bench.runtimes"), "WRITERS", writers)
    replace("bench.runtimes", profile=timings, write_results=nothing, ImageGraph=nothing)
    replace("bench.runtimes", load_baseline=lambda *_, **__: swinir())
    # Called with the name of a temporary file, another one each time.
    patch.setattr(import_module("trainers.commands.bench.runtimes"), "read_graph", lambda *_: lambda image: image)
    drawn = SimpleNamespace(save=lambda path: [path] * 3)
    replace("analyze.spectrum", draw_spectra=lambda *_, **__: drawn, spectrum=spectrum_of, load_network=named_network)
    replace("analyze.spectrum", _spectra=lambda net, files, size: ({"block": torch.arange(1.0, len(files) + 1)}, {}))
    replace("analyze.plan", load_network=named_network)
    curves = {"val/psnr": [(0, 20.0), (1, 21.0)], "train/loss": [(0, 1.0)]}
    replace("figure.curves", find_runs=lambda folders: [SimpleNamespace(folder=folders[0])])
    replace("figure.curves", read_logged=lambda folder: SimpleNamespace(scalars=curves))
    replace(
        "figure.attention",
        load_network=lambda path, network, **options: swinir(),
    )
    patch.setattr(nystra, "plan", recorder("plan", lambda *_, **__: nystra.Plan({}, 50.0, 1.0, 1.0)))
    patch.setattr(nystra.Plan, "save", lambda plan, path: path.write_text("plan"))
    patch.setattr(nystra.Plan, "__str__", lambda plan: "plan")
    patch.setattr("glmha.load_pretrained", recorder("load_pretrained", channel_network))
    modules = [SimpleNamespace(name="a", attention=nn.Identity(), inputs=2 * (torch.ones(1, 1, 1, 2),))] * 2
    replace("analyze.spectrum", read_modules=lambda *_: modules)
    replace("analyze.warm_start", read_modules=lambda *_: modules, _start=lambda *_: Convolution())
    replace("analyze.warm_start", _fit=nothing, _error=lambda *_: torch.rand(()).item())
    patch.setattr(torch, "manual_seed", recorder("manual_seed", torch.manual_seed))
    patch.setattr(PublishedTable, "cost", lambda *_: Complexity(1, 1, 1, 1))
    miniature = MiniatureTable("mini", "mini", "dB", (MiniatureRow("csa", 1.0, 1.0, (1.0, 2.0)),))
    replace("reproduce.command", run_channel_table=lambda *_: miniature, run_jobs=lambda jobs: list(jobs))
    command = import_module("trainers.commands.compare.command")
    replace("compare.command", build_variants=lambda *_: {command.RELEASED: swinir()}, _samples=some_samples)
    replace("compare.command", interleaved_medians=lambda calls, **_: dict.fromkeys(calls, 1.0))
    replace("compare.command", peak_memory=lambda *_: 1.0, _draw=nothing, provenance=lambda *_: {})
    parts = {name: recorder(name, lambda *_, **__: "summary") for name in ("learned", "spectral")}
    patch.setattr(import_module("trainers.commands.demo.command"), "PARTS", parts)
    for module in ("export", "push", "info"):
        replace(module, load_network=named_network, locate=lambda source, *_: Path(source))
    for module in ("export", "info"):
        replace(module, make_card=lambda net, file: {"architecture": str(file), "parameters": 1, "licence": None})
    replace("data_sets", fetch=nothing)
    patch.setattr("huggingface_hub.HfApi", lambda: Hub(recorder))
    replace("export", export=lambda *_, **__: EXPORTED)
    replace("report.command", ReportServer=Served, utc_now=lambda: "now")
    replace("restore.command", load_network=named_network)
    patch.setattr(nystra, "substitute", recorder("substitute"))
    faults = SimpleNamespace(errors=[], shortfalls=[])
    replace("prepare", find_source=lambda *_, **__: SimpleNamespace(sets=[], absent=[], faults=faults))
    replace(
        "prepare", make_jobs=lambda *_, **__: [SimpleNamespace(folder="", cut=SimpleNamespace(size=1), of_clips=False)]
    )
    replace("prepare", prepare=lambda *_, **__: SimpleNamespace(new=0, crops=1, images=1), make_links=nothing)
    replace("prepare", _verify=lambda *_: [])
    replace("runs", find_runs=lambda folders: [], _print=nothing)
    return recorder


def outputs(folder: Path) -> dict[str, Any]:
    """What lies in a folder, by the names of the files; of JSON what it says."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): json.loads(path.read_text()) if path.suffix == ".json" else path.read_bytes()
        for path in files
    }
