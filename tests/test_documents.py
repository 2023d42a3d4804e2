"""Documents are true: their Python runs, and the names, files, recipes and verbs in them exist."""

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import torch

import glmha
import nystra
from datamodules.files import write_image
from trainers import RestorationTask, metrics
from trainers.cli.signature import read_signature
from trainers.cli.verbs import FUNCTION_VERBS, TRAINER_VERBS

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
COMMANDED = [*DOCUMENTS, *sorted(ROOT.glob("docs/**/*.py")), *sorted(ROOT.glob("configs/**/*.yaml"))]
PACKAGES = ("glmha", "nystra", "datamodules", "trainers", "tests")
FACES = (
    "glmha",
    "nystra",
    "datamodules",
    "datamodules.degradations",
    "datamodules.files",
    "trainers",
    "trainers.metrics",
)
LONGEST_README = 700
OF_EVERY_VERB = {"config", "print_config", "help"}


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def run(block: str) -> dict[str, object]:
    names: dict[str, object] = {"__name__": "document"}
    exec(block, names)
    return names


@pytest.fixture(scope="module")
def contributed() -> dict[str, type]:
    """The classes that CONTRIBUTING shows how to write, by name."""
    found = {}
    for block in blocks(ROOT / "CONTRIBUTING.md", "python"):
        names = run(block)
        found |= {key: value for key, value in names.items() if getattr(value, "__module__", "") == "document"}
    return found


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if blocks(path, "python")], ids=name)
def test_python_in_documents_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for block in blocks(path, "python"):
        # A training of the length that is shown would take minutes.
        run(re.sub(r"max_steps=\d+", "max_steps=2", block))


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if blocks(path, "py")], ids=name)
def test_imports_in_documents_exist(path):
    for block in blocks(path, "py"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    importlib.import_module(alias.name)
            elif isinstance(node, ast.ImportFrom):
                module = importlib.import_module(str(node.module))
                assert not [alias.name for alias in node.names if not hasattr(module, alias.name)], node.module


def exists(dotted: str) -> bool:
    """Whether an import path leads to a module or to an attribute of one."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[length:]:
            if not hasattr(value, attribute):
                return False
            value = getattr(value, attribute)
        return True
    return False


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_names_and_files_in_documents_exist(path):
    text = path.read_text()
    dotted = set(re.findall(rf"`((?:{'|'.join(PACKAGES)})(?:\.\w+)+)`", text))
    files = set(re.findall(rf"`((?:{'|'.join(PACKAGES)}|configs|docs)(?:/[\w.*-]+)+)`", text))
    missing = [each for each in dotted if not exists(each)]
    # Recipes are called by their place below configs.
    missing += [each for each in files if not any(ROOT.glob(each)) and not any((ROOT / "configs").glob(each))]
    assert not missing


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_verbs_and_recipes_in_documents_exist(path):
    text = path.read_text()
    verbs = {verb.split()[0] for verb in (*TRAINER_VERBS, *FUNCTION_VERBS)}
    used = set(re.findall(r"(?:^ {4}|`)lowrank ([a-z]+)", text, re.MULTILINE))
    assert used <= verbs
    # Below logs lie the configurations of runs.
    recipes = set(re.findall(r"--config(?: |=)(?!logs/)([\w/]+\.yaml)", text))
    assert not [each for each in recipes if not (ROOT / "configs" / each.removeprefix("configs/")).is_file()]


def unknown_options(text: str) -> list[str]:
    """Options that are given to a verb of a function in a command of a text, and that it has not."""
    wrong = []
    # A line may go on behind a backslash.
    for command, given in re.findall(r"lowrank ((?:[a-z]+ )?[a-z]+)([^\n`]*)", re.sub(r"\\\n\s*", " ", text)):
        verb = command if command in FUNCTION_VERBS else command.split()[0]
        if verb in FUNCTION_VERBS:
            module, function = FUNCTION_VERBS[verb].module, FUNCTION_VERBS[verb].function
            known = {argument.name for argument in read_signature(module, function).arguments}
            options = {option.split(".")[0] for option in re.findall(r"--([\w.]+)", given)}
            wrong += [f"lowrank {verb} --{option}" for option in sorted(options - known - OF_EVERY_VERB)]
    return wrong


@pytest.mark.parametrize("path", COMMANDED, ids=name)
def test_options_in_documented_commands_exist(path):
    assert not unknown_options(path.read_text())


def test_an_option_that_does_not_exist_is_found():
    text = "    lowrank compare --pretrained x.pth \\\n        --kernel Softmax --data.root y\n`lowrank runs --broken`"
    assert unknown_options(text) == ["lowrank compare --kernel", "lowrank runs --broken"]


def test_every_verb_is_in_the_reference():
    text = (ROOT / "docs/reference/verbs.md").read_text()
    assert not [verb for verb in (*TRAINER_VERBS, *FUNCTION_VERBS) if f"| `lowrank {verb}` |" not in text]


def test_every_metric_has_its_protocol_in_the_reference():
    text = (ROOT / "docs/reference/metrics.md").read_text()
    classes = [
        each
        for each in metrics.__all__
        if inspect.isclass(value := getattr(metrics, each))
        and issubclass(value, metrics.ImageMetric)
        and not inspect.isabstract(value)
    ]
    assert classes
    assert not [each for each in classes if f"`{each}" not in text]


@pytest.mark.slow
def test_every_public_name_is_in_the_api_reference(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # Four lines of text, then the entries.
    entries = zlib.decompress((tmp_path / "site/objects.inv").read_bytes().split(b"\n", 4)[4]).decode().splitlines()
    found = {entry.split()[0] for entry in entries}
    # Type aliases and modules stand under another path than their face's, classes and functions under the face's.
    ends = {
        name.rpartition(".")[2]
        for name, role in (entry.split()[:2] for entry in entries)
        if role in ("py:attribute", "py:module")
    }
    public = [(face, each) for face in FACES for each in importlib.import_module(face).__all__]
    # A function may be in the module of its name.
    missing = [
        f"{face}.{each}"
        for face, each in public
        if not {f"{face}.{each}", f"{face}.{each}.{each}"} & found and each not in ends
    ]
    assert not missing


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().split()) <= LONGEST_README


def test_pictures_are_small():
    assert sum(path.stat().st_size for path in (ROOT / "docs/images").iterdir()) <= 1.5 * 2**20


def test_the_data_set_of_contributing_gives_pairs(contributed, tmp_path):
    for part, count in (("train", 2), ("test", 1)):
        for scene in range(count):
            for kind in ("noisy", "clean"):
                image = torch.full((40, 40, 3), 100 * (kind == "clean"), dtype=torch.uint8).numpy()
                write_image(tmp_path / part / f"scene{scene}" / f"{kind}.png", image)
    data = contributed["Scenes"](tmp_path, patch_size=16, batch_size=2, num_workers=0)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch["input"].shape == (2, 3, 16, 16)
    assert batch["input"].max() == 0
    assert torch.all(batch["target"] == 100 / 255)
    data.setup("test")
    assert data.test_set_names == ["Scenes"]


def test_the_channel_attention_of_contributing_is_exact_at_power_1(contributed):
    x = torch.randn(1, 8, 6, 6, generator=torch.Generator().manual_seed(0))
    exact = glmha.ChannelAttention(8, 2)
    ours, sharper = (contributed["SharpenedAttention"](8, 2, power=power) for power in (1.0, 2.0))
    for module in (ours, sharper):
        module.load_state_dict(exact.state_dict(), strict=False)
    torch.testing.assert_close(ours(x), exact(x))
    assert not torch.allclose(sharper(x), exact(x))
    assert sharper.state_dict()["_extra_state"].numel()


def test_the_kernel_of_contributing_is_exact_for_every_key(contributed):
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(4, 2, 16, 8, generator=generator) for _ in range(3))
    geometry = nystra.WindowGeometry((4, 4), (2, 2), shift=(2, 2))
    kernel = contributed["EverySecondKey"]
    exact = nystra.Softmax()(query, key, value, geometry)
    torch.testing.assert_close(kernel(step=1)(query, key, value, geometry), exact)
    assert not torch.allclose(kernel()(query, key, value, geometry), exact)
    assert kernel().cost((4, 4), 8).macs == nystra.Softmax().cost((4, 4), 8).macs / 2


def test_the_metric_of_contributing_averages_over_images(contributed):
    metric = contributed["LargestError"]()
    target = torch.zeros(2, 3, 4, 4)
    preds = target.clone()
    preds[0, 1, 2, 3] = 0.5
    metric.update(preds, target)
    assert metric.compute() == 0.25


def test_the_loss_of_contributing_ignores_an_offset(contributed):
    loss = contributed["GradientL1"]()
    target = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(loss(target + 0.25, target), torch.tensor(0.0), atol=1e-6, rtol=0)
    assert loss(target.flip(-1), target) > 0


def test_the_task_of_contributing_has_its_loss_and_metrics(contributed):
    task = contributed["DeblurringTask"](net=torch.nn.Conv2d(3, 3, 1))
    assert isinstance(task, RestorationTask)
    assert type(task.loss).__name__ == "PSNRLoss"
    assert list(task.metrics) == ["psnr", "ssim-3d"]


def test_the_host_of_contributing_takes_every_attention(contributed):
    x = torch.rand(1, 3, 10, 7)
    for attention in (glmha.ChannelAttention, glmha.GLMHA, contributed["SharpenedAttention"]):
        net = contributed["ThreeLayers"](attention=attention)
        assert net(x).shape == x.shape
        assert list(glmha.spectrum.spectrum(net, [x])) == ["attention"]


def test_pictures_are_of_networks_that_have_learned_something():
    networks = json.loads((ROOT / "docs/images/figures.json").read_text())["networks"]
    assert all(network["steps"] >= 200 for network in networks.values())
