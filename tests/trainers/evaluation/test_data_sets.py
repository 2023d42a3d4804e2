"""Which data sets a run is scored on, and how large they are when they are whole."""

from types import SimpleNamespace
from typing import ClassVar

import pytest
from torch.utils.data import DataLoader

from datamodules import DemoDataModule
from trainers.evaluation.data_sets import data_sets, expected_images, whole_sets


class Published(DemoDataModule):
    """The demonstration's data as if it were published with more images, and with another set."""

    published_counts: ClassVar = {"photographs": 6, "absent": 2}
    test_set_names: ClassVar = ["photographs"]


def trainer(data, *counts):
    loaders = [DataLoader(range(count)) for count in counts]
    return SimpleNamespace(datamodule=data, test_dataloaders=loaders if len(loaders) > 1 else loaders[0])


@pytest.mark.parametrize(("counts", "found"), [((3,), {"test": 3}), ((3, 1), {"test1": 3, "test2": 1})])
def test_sets_without_a_data_module_are_called_by_the_stage(counts, found):
    run = trainer(None, *counts)
    assert data_sets(run, "test") == expected_images(run, "test") == found


def test_sets_have_the_names_and_sizes_that_were_published():
    run = trainer(Published(), 4)
    assert data_sets(run, "test") == {"photographs": 4}
    assert expected_images(run, "test") == {"photographs": 6, "absent": 2}


def test_a_set_that_is_larger_than_published_is_whole():
    assert whole_sets(Published(), {"photographs": 9}) == {"photographs": 9, "absent": 2}
    assert whole_sets(None, {"photographs": 9}) == {"photographs": 9}
