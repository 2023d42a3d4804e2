"""The compiled programs fit every system that their wheels are for."""

import re
import shutil
import subprocess

import pytest

from nystra.programs.cpu import build, library

OBJECTS = sorted(library.FOLDER.glob("programs_*.so"))


@pytest.mark.skipif(not OBJECTS, reason="there are no native programs here")
@pytest.mark.skipif(shutil.which("objdump") is None, reason="no objdump (Debian: binutils)")
@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.name)
def test_objects_need_the_c_library_of_their_wheels_alone(path):
    symbols = subprocess.run(["objdump", "-p", "-T", str(path)], capture_output=True, text=True, check=True).stdout
    needed = set(re.findall(r"NEEDED +(\S+)", symbols))
    assert needed <= {"libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
    # Symbols of other libraries have other prefixes: GLIBCXX, CXXABI, GOMP.
    versions = set(re.findall(r"\b([A-Z]+)_([\d.]+)\b", symbols))
    assert {name for name, _ in versions} == {"GLIBC"}
    oldest = tuple(map(int, build.PUBLISHED.split("_")[1:3]))
    assert max(tuple(map(int, version.split("."))) for _, version in versions) <= (*oldest, 0)
