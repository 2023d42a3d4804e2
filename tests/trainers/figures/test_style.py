"""Files of figures."""

import csv

import pytest

from trainers.figures.style import Drawing, new_figure


@pytest.mark.parametrize("name", ["quality", "quality.png", "of v1.5"])
def test_a_figure_is_written_with_its_data_twice_alike(tmp_path, name):
    figure = new_figure(1.0, 1.0)
    figure.subplots().plot([1, 2])
    drawing = Drawing(figure, [{"x": 1, "y": 2.5}, {"x": 2, "z": "a,b"}])
    files = drawing.save(tmp_path / name)
    assert [file.name for file in files] == [name.removesuffix(".png") + end for end in (".pdf", ".png", ".csv")]
    contents = [file.read_bytes() for file in files]
    assert contents[0].startswith(b"%PDF")
    assert contents[1].startswith(b"\x89PNG")
    rows = list(csv.DictReader(files[2].read_text().splitlines()))
    assert rows == [{"x": "1", "y": "2.5", "z": ""}, {"x": "2", "y": "", "z": "a,b"}]
    drawing.save(tmp_path / name)
    assert [file.read_bytes() for file in files] == contents
    assert b"<svg" in drawing.encoded("svg")
