"""Messages that survive dataloader workers."""

import pytest
from torch.utils.data import DataLoader

from datamodules.errors import DataError


class Broken:
    """A data set that cannot be read."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        try:
            raise OSError("cause")
        except OSError as error:
            raise DataError("image a.png must be complete; replace it") from error


def test_message_of_a_worker_is_the_same_as_without_workers():
    for num_workers in (0, 1):
        with pytest.raises(DataError) as caught:
            next(iter(DataLoader(Broken(), num_workers=num_workers)))
        assert str(caught.value) == "image a.png must be complete; replace it"
