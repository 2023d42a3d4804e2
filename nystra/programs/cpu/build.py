"""Compiles the native programs: commands of this package's build, and `python -m nystra.programs.cpu.build`.

Every instruction set of an architecture has an object, `programs_<name>.so`. It needs the C library alone, so that one
build serves every version of Python and torch. Where there is no compiler, or where it fails, the package installs
without native programs, and plain torch does their work.

The environment variable NYSTRA_PROGRAMS says for which architecture a wheel is built:

- unset: for this machine's, if it has a C++ compiler: $CXX, c++, g++ or clang++.
- x86_64 or aarch64: for that one, to be published; no compiler for it is an error. For another machine's architecture
  the compiler is that of Debian's package g++-x86-64-linux-gnu or g++-aarch64-linux-gnu.
- none: for none.

The file is read by the build before the package can be imported, so that it imports nothing of the package.
"""

import concurrent.futures
import importlib.util
import itertools
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from setuptools import Command
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build
from setuptools.errors import CompileError

FOLDER = Path("nystra/programs/cpu")
VARIABLE = "NYSTRA_PROGRAMS"
LANGUAGE = ["-std=c++17", "-fPIC", "-fno-exceptions", "-fno-rtti"]
FLAGS = [*LANGUAGE, "-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"]
# Architecture → instruction set → flags; `library.py` chooses among them.
INSTRUCTION_SETS = {
    "x86_64": {"avx2": "-mavx2 -mfma", "avx512": "-mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma"},
    "aarch64": {"neon": ""},
}
LINK = ["-shared", "-static-libgcc", "-Wl,--as-needed,--no-undefined"] if sys.platform == "linux" else ["-shared"]
# The newest symbols that the objects need are of glibc 2.17, the oldest of any wheel's tag: a test reads them.
PUBLISHED = "manylinux_2_17_{}"


# As this file itself, by its path.
_spec = importlib.util.spec_from_file_location("digest", Path(__file__).with_name("digest.py"))
assert _spec is not None
assert _spec.loader is not None
_digest = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_digest)
SOURCE = _digest.SOURCE


class Programs(NamedTuple):
    """Result of a compilation.

    Attributes:
        objects: files that were made.
        problem: why some are missing, for people; empty if none is.
    """

    objects: list[Path]
    problem: str


def this_architecture() -> str:
    """Name this machine's architecture as INSTRUCTION_SETS does."""
    machine = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)


def find_compiler(architecture: str) -> tuple[list[str] | None, str]:
    """Find a C++ compiler: its command or None, and the commands that were looked for."""
    own = architecture == this_architecture()
    names = [os.environ.get("CXX", ""), "c++", "g++", "clang++"] if own else [f"{architecture}-linux-gnu-g++"]
    commands = [shlex.split(name) for name in names if name]
    return next((command for command in commands if shutil.which(command[0])), None), ", ".join(filter(None, names))


def compile_programs(folder: Path, architecture: str) -> Programs:
    """Compile the programs of an architecture into a folder, and remove all other objects from there.

    Args:
        folder: made if it is not there.
        architecture: a key of INSTRUCTION_SETS; of any other there are no programs.
    """
    objects: list[Path] = []
    problem = f"no native programs for {architecture}"
    sets = INSTRUCTION_SETS.get(architecture, {})
    if sets:
        compiler, names = find_compiler(architecture)
        problem = "" if compiler else f"no C++ compiler for {architecture} (looked for {names})"
        if compiler:
            objects, problem = _compile(compiler, folder, sets)
    for path in folder.glob("programs_*.so"):
        if path not in objects:
            path.unlink()
    return Programs(objects, problem)


def _compile(compiler: list[str], folder: Path, sets: dict[str, str]) -> Programs:
    folder.mkdir(parents=True, exist_ok=True)
    made, errors = [], []
    with tempfile.TemporaryDirectory() as temporary, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:

        def compile_one(job: tuple[str, Path]) -> tuple[str, str, str]:
            name, source = job
            to = f"{temporary}/{source.stem}_{name}.o"
            flags = [*FLAGS, f'-DDIGEST="{_digest.digest_sources()}"', *sets[name].split()]
            return name, to, _run([*compiler, "-c", "-w", *flags, str(source), "-o", to])

        # The largest sources take longest, and begin.
        sources = sorted(SOURCE.glob("*.cpp"), key=lambda path: -path.stat().st_size)
        compiled = list(pool.map(compile_one, itertools.product(reversed(sets), sources)))
        for name in sets:
            parts = [part for part in compiled if part[0] == name]
            path, new = folder / f"programs_{name}.so", folder / f".programs_{name}.{os.getpid()}"
            error = "".join(part[2] for part in parts)
            error = error or _run([*compiler, *LINK, *(part[1] for part in parts), "-o", str(new)])
            if error:
                errors.append(f"{path.name}: {error.strip()}")
            else:
                # Processes that run the programs of before keep their file.
                new.replace(path)
                made.append(path)
    return Programs(made, "\n".join(errors))


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    return done.stderr or f"{command[0]} failed" if done.returncode else ""


class Build(build):
    """The build of the package, with native programs."""

    sub_commands = [*build.sub_commands, ("build_programs", None)]  # noqa: RUF012 - as setuptools declares it


class BuildPrograms(Command):
    """Compile the native programs; an editable installation has them beside their sources."""

    description = "compile the native programs"
    user_options: list[tuple[str, str, str]] = []  # noqa: RUF012 - as setuptools declares it

    def initialize_options(self) -> None:
        """See base class."""
        self.build_lib: str | None = None
        self.editable_mode = False
        self.objects: list[Path] = []

    def finalize_options(self) -> None:
        """See base class."""
        self.set_undefined_options("build_py", ("build_lib", "build_lib"))

    def run(self) -> None:
        """See base class."""
        folder = FOLDER if self.editable_mode else Path(str(self.build_lib), FOLDER)
        target = os.environ.get(VARIABLE)
        self.objects, problem = compile_programs(folder, target or this_architecture())
        if target in INSTRUCTION_SETS and problem:
            raise CompileError(problem)
        if problem and target != "none":
            self.warn(f"native programs are missing, plain torch does their work: {problem}")

    def get_source_files(self) -> list[str]:
        """List the sources, for the source distribution."""
        return [str(path) for path in sorted((FOLDER / "source").iterdir())]

    def get_outputs(self) -> list[str]:
        """List the objects."""
        return [str(path) for path in self.objects]

    def get_output_mapping(self) -> dict[str, str]:
        """No object stands for another file."""
        return {}


class BuildWheel(bdist_wheel):
    """A wheel for any Python on the machines that its native programs are for; on all machines if it has none."""

    def get_tag(self) -> tuple[str, str, str]:
        """See base class."""
        python, abi, system = super().get_tag()
        if self.get_finalized_command("build_programs").objects and not self.plat_name_supplied:
            target = os.environ.get(VARIABLE)
            system = PUBLISHED.format(target) if target else self.plat_name.replace("-", "_").replace(".", "_")
        return python, abi, system


def main() -> int:
    """Compile the programs in place, for this machine; the exit status is 1 if some are missing."""
    objects, problem = compile_programs(Path(__file__).parent, this_architecture())
    for path in objects:
        print(path)
    if problem:
        print(problem, file=sys.stderr)
    return int(bool(problem))


if __name__ == "__main__":
    sys.exit(main())
