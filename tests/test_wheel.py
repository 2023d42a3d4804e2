"""The wheel holds what it should, and its command runs from it."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
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
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)],
        env={**os.environ, "NYSTRA_PROGRAMS": "none"},
        check=True,
        capture_output=True,
    )
    target = folder / "unpacked"
    zipfile.ZipFile(next(folder.glob("*.whl"))).extractall(target)
    return target


def test_the_top_level_is_ours_alone(unpacked):
    top = {path.name for path in unpacked.iterdir() if not path.name.endswith(".dist-info")}
    assert top == {"glmha", "nystra", "datamodules", "trainers", "configs"}


def test_every_recipe_is_in_it(unpacked):
    recipes = {path.relative_to(ROOT) for path in (ROOT / "configs").rglob("*.yaml")}
    assert {path.relative_to(unpacked) for path in (unpacked / "configs").rglob("*.yaml")} == recipes


def test_the_measured_spectra_are_in_it(unpacked):
    assert (unpacked / "datamodules/demo/spectra.csv").read_bytes() == (
        ROOT / "datamodules/demo/spectra.csv"
    ).read_bytes()


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
