"""The table of released checkpoints is complete and well formed."""

import re

import pytest

from glmha.shared.released.table import released

FAMILIES = {"Restormer", "MST", "MST++", "SwinIR", "Uformer", "DehazeFormer", "RVRT"}


def test_every_family_is_in_it():
    assert {entry.family for entry in released().values()} == FAMILIES


@pytest.mark.parametrize("entry", released().values(), ids=lambda entry: entry.name)
def test_an_entry_says_where_its_file_is_and_under_which_licence(entry):
    # A name must be told from a path and from an address.
    assert re.fullmatch(r"[a-z0-9-]+", entry.name)
    assert entry.file.endswith(".pth")
    assert entry.licence
    assert entry.parameters > 1e5
    for address in filter(None, (entry.upstream, entry.paper, entry.address, entry.page)):
        assert address.startswith("https://")
    assert (entry.address is None) != (entry.page is None)
    if entry.address is not None:
        assert entry.address.startswith(f"{entry.upstream}/releases/download/")
    assert (entry.size is None) == (entry.sha256 is None)
    assert entry.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", entry.sha256)
    # A figure is of no use without what was measured.
    assert entry.figure is None or ": " in entry.figure


def test_addresses_and_digests_are_of_one_checkpoint_each():
    for values in zip(*((e.address, e.sha256) for e in released().values()), strict=True):
        known = [value for value in values if value is not None]
        assert len(set(known)) == len(known)
