"""The wheel holds what it should, and its command runs from it."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
import torch

from nystra.programs.cpu import build

ROOT = Path(__file__).parents[1]


def build_wheel(folder: Path, programs: str, *options: str) -> Path:
    """Build a wheel with the native programs for an architecture, or with none."""
    # A copy, so that no build folder is left in the checkout; the environment has setuptools, so nothing is fetched.
    source = folder / "source"
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.split(b"\0")
    for name in (Path(os.fsdecode(n)) for n in names if n and not n.startswith(b"tests/golden")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [sys.executable, "-m", "build", *options, "--no-isolation", "--outdir", str(folder), str(source)],
        env={**os.environ, "NYSTRA_PROGRAMS": programs},
        check=True,
        capture_output=True,
    )
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    target = folder / "unpacked"
    zipfile.ZipFile(build_wheel(folder, "none", "--wheel")).extractall(target)
    return target


def test_the_top_level_is_ours_alone(unpacked):
    top = {path.name for path in unpacked.iterdir() if not path.name.endswith(".dist-info")}
    assert top == {"glmha", "nystra", "datamodules", "trainers", "configs"}


def test_every_recipe_is_in_it(unpacked):
    recipes = {path.relative_to(ROOT) for path in (ROOT / "configs").rglob("*.yaml")}
    assert {path.relative_to(unpacked) for path in (unpacked / "configs").rglob("*.yaml")} == recipes


def test_what_pages_of_reports_are_made_of_is_in_it(unpacked):
    names = {path.name for path in (unpacked / "trainers/reports/page").iterdir()}
    assert {"page.html.jinja", "page.css", "page.js"} <= names


def test_the_measured_spectra_are_in_it(unpacked):
    assert (unpacked / "datamodules/demo/spectra.csv").read_bytes() == (
        ROOT / "datamodules/demo/spectra.csv"
    ).read_bytes()


@pytest.mark.parametrize("name", ["glmha/shared/released/table.yaml", "datamodules/preparation/sources.yaml"])
def test_tables_are_in_it(unpacked, name):
    assert (unpacked / name).read_bytes() == (ROOT / name).read_bytes()


def test_the_command_runs_from_it_and_finds_recipes(unpacked, tmp_path):
    entry = next(unpacked.glob("*.dist-info/entry_points.txt")).read_text()
    assert "lowrank = trainers.cli:main" in entry
    program = (
        "import trainers.cli, sys; assert trainers.cli.__file__.startswith(sys.argv[1]); "
        "sys.exit(trainers.cli.main(['fit', '--config', 'demo/restormer_glmha.yaml', '--print_config']))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, str(unpacked)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(unpacked)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "glmha.GLMHA" in done.stdout


def test_without_native_programs_it_is_for_every_machine(unpacked):
    tags = next(unpacked.glob("*.dist-info/WHEEL")).read_text()
    assert "Tag: py3-none-any\n" in tags
    assert not list(unpacked.rglob("*.so"))


@pytest.mark.slow
def test_a_published_wheel_brings_native_programs_to_machines_without_a_compiler(tmp_path):
    architecture = build.this_architecture()
    if architecture not in build.INSTRUCTION_SETS or build.find_compiler(architecture)[0] is None:
        pytest.skip("no C++ compiler, or no programs for this processor")
    # By way of the source distribution, as `make wheels` does.
    wheel = build_wheel(tmp_path, architecture)
    assert wheel.name.endswith(f"-py3-none-{build.PUBLISHED.format(architecture)}.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    without = {"PATH": str(python.parent), "CXX": "/nonexistent"}
    subprocess.run([python, "-m", "pip", "install", "--no-index", "--no-deps", wheel], env=without, check=True)
    # Torch is this environment's.
    packages = sysconfig.get_paths(vars={"base": str(tmp_path / "venv")})["purelib"]
    Path(packages, "torch.pth").write_text(str(Path(torch.__file__).parents[1]))
    program = (
        "import torch, nystra; from nystra.programs.cpu import library; print(library.__file__, library.object_file());"
        "assert library.load() is not None; tokens = torch.rand(1, 1, 16, 4);"
        "print(nystra.Softmax()(tokens, tokens, tokens, nystra.WindowGeometry((4, 4))).shape)"
    )
    done = subprocess.run(
        [python, "-W", "ignore", "-c", program], cwd=tmp_path, env=without, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(packages)
