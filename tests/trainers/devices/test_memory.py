"""Freed memory that stays with the process."""

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import numpy
from trainers.devices.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def work():
    parts = [numpy.ones(2_500_000) for _ in range(4)]
for _ in range(3):
    work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is another")
def test_tensors_take_the_pages_of_freed_ones():
    leave, keep = (
        int(subprocess.run([sys.executable, "-c", SCRIPT, way], capture_output=True, text=True, check=True).stdout)
        for way in ("leave", "keep")
    )
    if leave < 2_000:
        pytest.skip("the system gives pages so large that there is nothing to keep")
    assert keep < leave / 4
