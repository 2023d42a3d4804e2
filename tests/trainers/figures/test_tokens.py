"""Time and memory against tokens."""

import json

import pytest

from trainers.figures.tokens import draw_tokens, read_measured


def results(path, window: int, **changes):
    tokens = window**2
    rows = {
        "softmax, fused": {"seconds": 2e-9 * 4 * tokens**2, "bytes": 8.0 * 4 * tokens**2},
        "Nystrom(landmarks=4)": {"seconds": 1e-6 * 4 * tokens, "bytes": 0.0},
    }
    content = {
        "window": window,
        "windows": 4,
        "heads": 2,
        "channels": 8,
        "bias": True,
        "device": "cpu",
        "results": rows,
    }
    path.write_text(json.dumps({**content, **changes}))
    return path


def test_slopes_are_the_powers_of_the_tokens(tmp_path):
    files = [results(tmp_path / f"{window}.json", window) for window in (8, 32, 16)]
    drawing = draw_tokens(read_measured(files), title="a bench")
    assert len(drawing.figure.axes) == 4
    rows = {(row["kernel"], row["tokens"]): row for row in drawing.rows}
    assert len(rows) == 6
    assert rows["softmax, fused", 64]["slope of seconds"] == pytest.approx(2)
    assert rows["softmax, fused", 64]["slope of bytes"] == pytest.approx(2)
    assert rows["Nystrom(landmarks=4)", 64]["slope of seconds"] == pytest.approx(1)
    # One window's.
    assert rows["Nystrom(landmarks=4)", 1024]["seconds"] == pytest.approx(1e-6 * 1024)
    time, *_ = drawing.figure.axes
    assert list(time.lines[0].get_xdata()) == [64, 256, 1024]


def test_results_that_cannot_be_compared_are_refused(tmp_path):
    one = results(tmp_path / "8.json", 8)
    with pytest.raises(ValueError, match="two numbers of tokens"):
        draw_tokens(read_measured([one, one]))
    with pytest.raises(ValueError, match="same attention as the first"):
        read_measured([one, results(tmp_path / "other.json", 16, channels=9)])
    (tmp_path / "no.json").write_text("{}")
    with pytest.raises(ValueError, match=r"no.json\) must be of lowrank bench attention"):
        read_measured([tmp_path / "no.json"])
