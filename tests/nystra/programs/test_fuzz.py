"""Random calls of the native programs (`fuzz.h`): within bounds, as plain loops, for the lanes of every processor."""

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from nystra.programs.cpu import build

PROGRAMS = pytest.mark.parametrize("program", ["exact", "landmark_pooling", "content_pooling", "linear_maps"])
# Compiled three times as fast as with all checks, which the slow test makes.
SANITIZED = ["-O1", "-fsanitize=address,bounds,shift,signed-integer-overflow", "-fno-sanitize-recover=all"]
SANITIZED += ["--param", "asan-instrumentation-with-call-threshold=0"]


def fuzz(
    program: str, compiler: list[str], flags: list[str], folder: Path, cases: int, emulator: tuple[str, ...] = ()
) -> None:
    """Compile a program's driver and run so many cases."""
    driver = Path(__file__).with_name(f"fuzz_{program}.cpp")
    options = [flag for flag in build.FLAGS if flag not in ("-O3", "-fPIC", "-fno-exceptions", "-fno-rtti")]
    command = [*compiler, *options, "-pthread", "-w", f"-I{build.SOURCE}", *flags, str(driver), "-o", "fuzz"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    done = subprocess.run(
        [*emulator, "./fuzz", "1", str(cases)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def compiler() -> list[str]:
    command, names = build.find_compiler(build.this_architecture())
    if command is None:
        pytest.skip(f"no C++ compiler: {names}")
    return command


@pytest.fixture(scope="module")
def own() -> list[str]:
    """Flags for an instruction set that this machine has."""
    if build.this_architecture() == "aarch64":
        return []
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists() or "avx2" not in cpuinfo.read_text():
        pytest.skip(f"this processor ({platform.machine()}) is not known to have AVX2")
    return build.INSTRUCTION_SETS["x86_64"]["avx2"].split()


@pytest.fixture(scope="module")
def sanitized(compiler, tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("sanitizers")
    (folder / "empty.cpp").write_text("int main() {}")
    command = [*compiler, *SANITIZED, "empty.cpp", "-o", "empty"]
    if subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode:
        pytest.skip("the compiler has no sanitizers")
    return SANITIZED


@PROGRAMS
def test_programs_stay_within_bounds_and_agree_with_plain_loops(program, compiler, sanitized, own, tmp_path):
    fuzz(program, compiler, [*own, *sanitized], tmp_path, 12)


@pytest.mark.slow
@PROGRAMS
def test_programs_stay_within_bounds_in_many_cases(program, compiler, sanitized, own, tmp_path):
    fuzz(program, compiler, [*own, *sanitized, "-O2", "-fsanitize=undefined"], tmp_path, 500)


@pytest.mark.slow
@PROGRAMS
@pytest.mark.parametrize(("lanes", "cases"), [(4, 200), (16, 30)])
def test_programs_agree_with_plain_loops_whatever_the_lanes(program, compiler, own, tmp_path, lanes, cases):
    fuzz(program, compiler, [*own, "-O1", f"-DLANES={lanes}"], tmp_path, cases)


@pytest.mark.slow
@PROGRAMS
def test_programs_for_aarch64_agree_with_plain_loops(program, tmp_path):
    compiler, names = build.find_compiler("aarch64")
    if compiler is None:
        pytest.skip(f"no C++ compiler for aarch64: {names}")
    emulator = () if build.this_architecture() == "aarch64" else ("qemu-aarch64-static",)
    if emulator and not shutil.which(emulator[0]):
        pytest.skip(f"no {emulator[0]} (Debian: qemu-user-static)")
    fuzz(program, compiler, ["-O2", "-static"], tmp_path, 40, emulator)
