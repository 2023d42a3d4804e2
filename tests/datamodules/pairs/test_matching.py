"""Matching of names."""

import pytest

from datamodules.errors import DataError
from datamodules.pairs.matching import Affixes, pair_folders


def touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def pair(tmp_path, inputs, targets, **kwargs):
    return pair_folders(touch(tmp_path / "in", *inputs), touch(tmp_path / "gt", *targets), **kwargs)


def test_folders_are_paired_by_name_not_by_suffix(tmp_path):
    pairs = pair(tmp_path, ["b.png", "a.JPG"], ["a.png", "b.png"])
    assert pairs.names == ("a", "b")
    assert [path.name for path in pairs.targets] == ["a.png", "b.png"]
    assert len(pairs) == 2


def test_known_prefixes_are_ignored(tmp_path):
    pairs = pair(tmp_path, ["rain-001.png", "rain-002.png"], ["norain-002.png", "norain-001.png"])
    assert [path.name for path in pairs.targets] == ["norain-001.png", "norain-002.png"]
    assert pairs.names == ("rain-001", "rain-002")


def test_suffix_of_the_scale_is_ignored_at_that_scale_only(tmp_path):
    assert len(pair(tmp_path, ["babyx2.png"], ["baby.png"], scale=2)) == 1
    with pytest.raises(DataError, match="without counterpart"):
        pair(tmp_path, ["babyx2.png"], ["baby.png"], scale=3)


def test_unequal_counts_are_refused_with_what_is_alone(tmp_path):
    with pytest.raises(DataError, match=r"data\.in .* must match data\.gt .* got 3 and 2 images, 1 .*c\.png"):
        pair(
            tmp_path,
            ["a.png", "b.png", "c.png"],
            ["a.png", "b.png"],
            input_argument="data.in",
            target_argument="data.gt",
        )


def test_order_alone_pairs_nothing(tmp_path):
    with pytest.raises(DataError, match=r"4 without counterpart: .*a\.png"):
        pair(tmp_path, ["a.png", "b.png"], ["x.png", "y.png"])


def test_long_lists_are_shortened(tmp_path):
    with pytest.raises(DataError, match="…"):
        pair(tmp_path, [f"{i}.png" for i in range(9)], ["a.png"])


def test_ambiguous_names_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"must name each image once, got a\.jpg and a\.png"):
        pair(tmp_path, ["a.png", "a.jpg"], ["a.png"])


@pytest.mark.parametrize("missing", ["in", "gt"])
def test_missing_folder_is_named(tmp_path, missing):
    touch(tmp_path / {"in": "gt", "gt": "in"}[missing], "a.png")
    with pytest.raises(DataError, match=rf"{missing}\) must be an existing folder"):
        pair_folders(tmp_path / "in", tmp_path / "gt")


@pytest.mark.parametrize(
    ("inputs", "targets", "affixes", "options"),
    [
        (["1", "2"], ["1_clean", "2_clean"], Affixes(target_suffix="_clean"), "--data.target_suffix=_clean"),
        (["1_n", "2_n"], ["1", "2"], Affixes(input_suffix="_n"), "--data.input_suffix=_n"),
        (["in-1", "in-2"], ["1", "2"], Affixes(input_prefix="in-"), "--data.input_prefix=in-"),
        (
            ["bad_1", "bad_2"],
            ["good_1", "good_2"],
            Affixes(input_prefix="bad_", target_prefix="good_"),
            "--data.input_prefix=bad_ --data.target_prefix=good_",
        ),
        (
            ["x_10_n", "x_11_n"],
            ["10_c", "11_c"],
            Affixes("x_", "_n", "", "_c"),
            "--data.input_prefix=x_ --data.input_suffix=_n --data.target_suffix=_c",
        ),
    ],
)
def test_affixes_are_told_and_then_pair_the_images(tmp_path, inputs, targets, affixes, options):
    files = [f"{name}.png" for name in inputs], [f"{name}.png" for name in targets]
    with pytest.raises(DataError, match=rf"; names would match with {options}$"):
        pair(tmp_path, *files)
    pairs = pair(tmp_path, *files, affixes=affixes)
    assert [path.stem for path in pairs.targets] == targets
    assert pairs.names == tuple(inputs)


def test_affixes_and_the_scales_suffix_are_both_left_out(tmp_path):
    assert len(pair(tmp_path, ["low-babyx2.png"], ["baby.png"], scale=2, affixes=Affixes("low-"))) == 1


@pytest.mark.parametrize(
    ("inputs", "targets"),
    [(["a_1.png"], ["b_1.png"]), (["a_1.png", "a_2.png"], ["b_1.png", "b_3.png"])],
    ids=["a single pair shares everything", "no affix would do"],
)
def test_no_affix_is_proposed_that_does_not_match_all(tmp_path, inputs, targets):
    with pytest.raises(DataError, match="add the missing files or remove these"):
        pair(tmp_path, inputs, targets)


@pytest.mark.parametrize(
    ("inputs", "targets", "scale", "matched"),
    [
        (["matrix2"], ["matrix2"], 2, {"matrix2": "matrix2"}),
        (["matrix2", "babyx2"], ["matrix2", "baby"], 2, {"matrix2": "matrix2", "babyx2": "baby"}),
        (["a", "ax3"], ["a", "ax3"], 3, {"a": "a", "ax3": "ax3"}),
        (["rain-1", "1"], ["rain-1", "1"], 1, {"rain-1": "rain-1", "1": "1"}),
        (["rain-2", "norain-1"], ["norain-2", "norain-1"], 1, {"rain-2": "norain-2", "norain-1": "norain-1"}),
    ],
)
def test_equal_names_are_a_pair_whatever_they_look_like(tmp_path, inputs, targets, scale, matched):
    names = [[f"{name}.png" for name in names] for names in (inputs, targets)]
    pairs = pair(tmp_path, *names, scale=scale)
    assert {one.stem: other.stem for one, other in zip(pairs.inputs, pairs.targets, strict=True)} == matched
    assert list(pairs.inputs) == sorted(pairs.inputs)


def test_given_affixes_come_before_equal_names(tmp_path):
    touch(tmp_path / "all", "a.png", "a_noisy.png")
    with pytest.raises(DataError, match="must name each image once"):
        pair_folders(tmp_path / "all", tmp_path / "all", affixes=Affixes(input_suffix="_noisy"))
