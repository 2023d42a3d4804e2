"""Folders of one's own, recognised by their names."""

import pytest

from datamodules.errors import DataError
from datamodules.pairs.folders import find_halves, find_part


def folders(root, *names):
    for name in names:
        (root / name).mkdir(parents=True)
    return root


@pytest.mark.parametrize(
    ("inputs", "targets"),
    [
        ("input", "target"),
        ("lq", "gt"),
        ("noisy", "clean"),
        ("Rainy", "Clean"),
        ("hazy", "GT"),
        ("blur", "sharp"),
        ("LR", "HR"),
        ("input", "ground_truth"),
        ("Low", "High"),
    ],
)
def test_usual_names_are_recognised_beside_other_folders(tmp_path, inputs, targets):
    root = folders(tmp_path, inputs, targets, "masks", ".cache")
    assert find_halves(root, "train") == (root / inputs, root / targets)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["noisy", "lq", "clean"], "for inputs lq, noisy, for targets clean, of the folders clean, lq, noisy"),
        (["input"], "for inputs input, for targets none, of the folders input"),
        (["a", "b"], "for inputs none, for targets none, of the folders a, b"),
        ([], "for inputs none, for targets none, of the folders none"),
    ],
)
def test_folders_that_cannot_be_told_apart_are_refused_with_the_remedy(tmp_path, names, found):
    with pytest.raises(DataError, match=rf"got {found}; give --data\.val_input and --data\.val_target"):
        find_halves(folders(tmp_path, *names), "val")


@pytest.mark.parametrize("name", ["val", "valid", "Validation"])
def test_parts_go_by_their_usual_names(tmp_path, name):
    root = folders(tmp_path, name, "train")
    assert find_part(root, "val") == root / name
    assert find_part(root, "test") is None


def test_two_folders_for_one_part_are_refused(tmp_path):
    with pytest.raises(DataError, match="must hold one folder for val, got val, valid; keep or rename one"):
        find_part(folders(tmp_path, "val", "valid"), "val")


def test_missing_root_is_named(tmp_path):
    with pytest.raises(DataError, match=r"root \(.*gone\) must be an existing folder, got nothing there"):
        find_part(tmp_path / "gone", "train")
