"""Toy data sets, cut as the verb `prepare` does."""

import pytest

from datamodules.base.checks import call
from datamodules.preparation.crops import prepare
from datamodules.preparation.inventory import find_source
from datamodules.preparation.published_crops import choose_cut, make_jobs, make_links
from tests.datamodules.conftest import write_pairs


@pytest.fixture
def gopro(tmp_path):
    for split in ("train", "test"):
        write_pairs(tmp_path / "source/GoPro" / split, ["a", "b", "c"], size=(40, 56))
    return tmp_path / "source"


def make(dataset, source, output, *, scale=None, pack=False, workers=0, **cut):
    cut = choose_cut(dataset, **cut)
    found = find_source(dataset, source, scale=scale)
    made = [prepare(job, workers=workers) for job in make_jobs(found, output, cut, pack=pack)]
    make_links(found, output)
    return made[0] if len(made) == 1 else made


def faults_of(dataset, source, **options):
    found = find_source(dataset, source, **options)
    return found.faults.errors + [fault for part in found.sets for check in part.checks for fault in call(check)]
