"""Quality against cost: what results tell, the Pareto front, the lines of exact attention."""

import json
import math

import pytest

import nystra
from nystra.analysis.plan import Choice
from trainers.figures.points import Point, read_points
from trainers.figures.quality import draw_quality, pareto_front

POOLING = str(nystra.LandmarkPooling(16, 64, "own"))


def comparison(**about) -> dict:
    variants = {
        "released": {"scores": {"PSNR": 36.5, "SSIM": 0.9}, "seconds": 1.0, "memory": None, "macs": 9e9},
        POOLING: {"scores": {"PSNR": 36.25, "SSIM": 0.9}, "seconds": 0.5, "memory": 2**20, "fidelity": 60.0},
    }
    return {"protocol": {"PSNR": "", "SSIM": ""}, "variants": variants, **about}


BENCH = {
    "results": {
        "baseline, float32": {"seconds": 4.0},
        "fused softmax, float32": {"seconds": 2.0},
        f"{POOLING}, float32": {"seconds": 0.25, "bytes": 7.0},
        f"{POOLING}, bfloat16": {"seconds": 0.125},
        "attention taken out, float32": {"seconds": 0.1},
    }
}


def write(path, content) -> object:
    path.write_text(json.dumps(content))
    return path


def test_times_of_a_bench_join_the_fidelity_of_a_comparison(tmp_path):
    files = [write(tmp_path / "compare.json", comparison()), write(tmp_path / "bench.json", BENCH)]
    points = {point.label: point for point in read_points(files)}
    assert list(points) == ["released", POOLING, "baseline", "fused softmax", f"{POOLING}, bfloat16"]
    joined = points[POOLING]
    assert (joined.seconds, joined.bytes, joined.fidelity, joined.lost, joined.score) == (0.25, 7.0, 60.0, 0.25, 36.25)
    assert (joined.family, joined.sizes) == ("LandmarkPooling", "16, 64, own")
    assert points["released"].fidelity == math.inf
    kinds = [point.kind for point in points.values()]
    assert kinds == ["exact", "approximation", "host", "fused", "approximation"]


def test_a_network_of_another_library_is_released_as_its_own_code(tmp_path):
    released, _ = read_points([write(tmp_path / "metrics.json", comparison(network="library:make"))])
    assert released.kind == "host"


def test_a_plan_brings_all_its_times(tmp_path):
    choice = Choice(nystra.Softmax(), 1.0, 1.0, 0.0)
    nystra.Plan({"a": choice}, 50.0, 0.5, 1.0, fused_seconds=2.0, host_seconds=3.0, checked_db=48.0).save(
        tmp_path / "plan.yaml"
    )
    points = read_points([tmp_path / "plan.yaml"])
    assert [(point.kind, point.seconds) for point in points] == [
        ("plan", 0.5),
        ("exact", 1.0),
        ("fused", 2.0),
        ("host", 3.0),
    ]
    assert points[0].fidelity == 48.0


def test_a_figure_can_be_drawn_of_its_own_data(tmp_path):
    points = [
        Point("Nystrom(landmarks=4)", seconds=1.0, fidelity=40.0),
        Point("released", "exact", seconds=2.0, fidelity=math.inf),
    ]
    draw_quality(points).save(tmp_path / "quality")
    assert read_points([tmp_path / "quality.csv"]) == points


def test_an_evaluation_is_a_score_named_by_its_folder(tmp_path):
    sets = {"a": {"per_image": {"1": {"psnr": 30}, "2": {"psnr": "32"}}}}
    (tmp_path / "run").mkdir()
    write(tmp_path / "run" / "metrics.json", {"metrics": {"psnr": "P"}, "sets": sets})
    assert read_points([tmp_path / "run"]) == [Point("run", score=31.0)]


@pytest.mark.parametrize("text", ["[]", "{}", "1", '{"variants": {}}', '{"results": [1]}', "no JSON", '{"sets": 1}'])
def test_other_files_are_refused_by_name(tmp_path, text):
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(ValueError, match=r"results \(.*other.json\) must be of lowrank compare"):
        read_points([tmp_path / "other.json"])


def test_the_front_holds_what_none_surpasses():
    points = [
        Point("a", seconds=1.0, fidelity=30.0, lost=2.0),
        Point("b", seconds=2.0, fidelity=50.0, lost=0.1),
        Point("dearer and worse", seconds=3.0, fidelity=40.0, lost=1.0),
        Point("as dear and worse", seconds=2.0, fidelity=49.0, lost=0.2),
        Point("best", seconds=4.0, fidelity=60.0, lost=-0.1),
    ]
    for quality in ("fidelity", "lost"):
        assert [point.label for point in pareto_front(points[::-1], "seconds", quality)] == ["a", "b", "best"]


def test_approximations_are_points_and_exact_attention_is_a_line():
    points = [
        Point("Nystrom(4)", seconds=1.0, fidelity=40.0),
        Point("Nystrom(16)", seconds=2.0, fidelity=50.0),
        Point("released", "exact", seconds=3.0, fidelity=math.inf),
        Point("fused softmax", "fused", seconds=5.0, fidelity=math.inf),
        Point("not measured", fidelity=10.0),
    ]
    drawing = draw_quality(points, title="a net")
    (axes,) = drawing.figure.axes
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines) == ["Nystrom", "exact, native", "exact, torch's fused", "Pareto front"]
    assert lines["Nystrom"].get_xydata().tolist() == [[1, 40], [2, 50]]
    assert {text.get_text() for text in axes.texts} == {"4", "16"}
    assert [row["front"] for row in drawing.rows] == [True, True, False, False, False]


def test_results_without_the_asked_figures_are_refused():
    with pytest.raises(ValueError, match="a point with macs and error, got none among 1"):
        draw_quality([Point("a", seconds=1.0, fidelity=1.0)], cost="macs", quality="error")
