"""The pages of a run, of several runs and of results: what is on them, and what strangers' folders cannot do."""

import json
import re
from html import unescape
from pathlib import Path

import pytest

from tests.trainers.commands.report.folders import (
    picture,
    write_bench,
    write_comparison,
    write_evaluation,
    write_run,
)
from tests.trainers.reports.page.test_render import HOSTILE, Elements
from trainers.commands.report.command import run_report
from trainers.commands.report.configuration import changed_options


def report(folder: Path, *paths: Path) -> str:
    """The page's text, as its reader sees it, but with its tags."""
    run_report(paths, output=folder / "out/report.html")
    return unescape((folder / "out/report.html").read_text(encoding="utf-8"))


def headings(text: str) -> list[str]:
    return re.findall(r"<h2[^>]*>([^<]*)</h2>", text)


def test_the_page_of_a_run_tells_everything_of_it(tmp_path):
    run = write_run(tmp_path / "run/version_0")
    write_evaluation(run)
    text = report(tmp_path, run)
    parts = ["Summary", "Curves", "Results", "Pictures", "Configuration", "Environment", "Commands", "Log"]
    assert headings(text) == parts
    for shown in (
        "30.5",
        "of 30",
        "1 h 30 min",
        "train/loss",
        "word protocol",
        "partial: images",
        "lowrank fit --config",
    ):
        assert shown in text
    # Input, the output at two steps, and the target.
    assert re.findall('data-label="([^"]*)"', text) == ["input", "output, step 10", "output, step 30", "target"]
    assert f"--ckpt_path {run / 'checkpoints/best-step=30.ckpt'}" in text
    # A curve of one value is no curve.
    assert "train/loss over step" in text
    assert "val/psnr over step" not in text


def test_the_page_of_a_folder_compares_its_runs_and_evaluations(tmp_path):
    for index, rate in enumerate((1e-3, 2e-3)):
        run = write_run(tmp_path / f"logs/run/version_{index}", rate=rate, best=30 + index)
        write_evaluation(tmp_path / f"logs/test/version_{index}", change=index)
        picture(tmp_path / f"logs/test/version_{index}/images/set", "a.png", 100 + index)
    text = report(tmp_path, tmp_path / "logs")
    assert headings(text)[:4] == ["Runs", "Curves", "Results", "Pictures"]
    assert "model.optimizer.lr" in text
    assert text.count('aria-pressed="true" data-number=') == 2
    assert "psnr of every image" in text
    # Both runs saw the same input: their outputs lie over each other. So do the images that both evaluations restored.
    labels = re.findall('data-label="([^"]*)"', text)
    assert labels[:4] == ["input", "run/version_0", "run/version_1", "target"]
    assert labels[4:] == ["test/version_0", "test/version_1"]
    assert str(run) in text


def test_results_without_a_run_are_a_page_too(tmp_path):
    write_comparison(tmp_path / "compare")
    picture(tmp_path / "compare", "comparison.png", 9)
    for index in range(3):
        picture(tmp_path / "compare/pictures/0", f"{index}.png", 100 + 9 * index)
    write_bench(tmp_path / "bench.json")
    text = report(tmp_path, tmp_path / "compare", tmp_path / "bench.json")
    assert headings(text)[:3] == ["Results", "Quality and cost", "Pictures"]
    assert re.findall('data-label="([^"]*)"', text) == ["input", "Kernel(word)", "target", "comparison.png"]
    assert '{"series":[["released",0,[[3.0,30.0]]],["Kernel(word)",1,[[2.0,29.0]]],["Other()",2,[[1.0,28.0]]]]' in text
    for shown in ("Kernel(word)", "worst drop", "fidelity dB", "3.0", "memory MiB", "comparison.png"):
        assert shown in text


def test_a_run_without_test_sets_is_evaluated_on_its_validation_sets(tmp_path):
    run = write_run(tmp_path / "run")
    assert "lowrank test --config" in report(tmp_path, run)
    record = json.loads((run / "run.json").read_text())
    record["configuration"]["data"]["init_args"]["test_input"] = None
    (run / "run.json").write_text(json.dumps(record))
    assert "lowrank validate --config" in report(tmp_path, run)


@pytest.mark.parametrize("word", HOSTILE)
def test_a_strangers_folder_executes_nothing_wherever_its_words_stand(tmp_path, word):
    pages = []
    for each in ("plain", word):
        root = tmp_path / str(len(pages))
        for index in range(2):
            write_run(root / f"runs/version_{index}", each, rate=1e-3 * (1 + index))
        write_evaluation(root / "test", each)
        write_comparison(root / "compare", each)
        write_bench(root / "bench.json", each)
        (root / "damaged").mkdir()
        (root / "damaged/metrics.json").write_text(json.dumps({"sets": {each: each}, each: each}))
        run_report([root], output=root / "page.html")
        pages.append(Elements((root / "page.html").read_text(encoding="utf-8")))
    plain, hostile = pages
    assert hostile.tags == plain.tags
    assert hostile.handlers == []
    assert all(address.startswith(("#", "data:image/")) for address in hostile.addresses)


def test_links_out_of_the_folder_are_not_followed(tmp_path):
    secret = write_evaluation(tmp_path / "secret", "secret")
    picture(tmp_path / "secret", "secret.png", 50)
    (tmp_path / "secret/train.log").write_text("a secret line\n")
    write_run(tmp_path / "else/version_0", "secret")
    run = write_run(tmp_path / "logs/version_0")
    (run / "train.log").unlink()
    (run / "train.log").symlink_to(secret / "train.log")
    (run / "metrics.json").symlink_to(secret / "metrics.json")
    (run / "secret.png").symlink_to(secret / "secret.png")
    (run / "images").symlink_to(secret)
    (tmp_path / "logs/version_1").symlink_to(tmp_path / "else/version_0")
    text = report(tmp_path, tmp_path / "logs")
    assert "secret" not in text
    # What is named itself may be a link.
    (tmp_path / "named").symlink_to(tmp_path / "else")
    assert "secret" in report(tmp_path, tmp_path / "named")


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"sets": 1}', '{"sets": {"a": {}}, "metrics": {"p": "x"}}', '{"variants": {"a": 1}}'],
)
def test_damaged_results_leave_the_rest_of_the_page(tmp_path, content):
    run = write_run(tmp_path / "run")
    (run / "metrics.json").write_text(content)
    (run / "fine_tuning.json").write_text(content)
    (run / "events.out.tfevents.9.damaged").write_bytes(b"\0" * 40 + content.encode())
    text = report(tmp_path, run)
    assert "train/loss" in text
    assert "fine_tuning.json is damaged" in text


def test_curves_come_from_a_csv_where_there_are_no_event_files(tmp_path):
    run = write_run(tmp_path / "run")
    next(run.glob("events*")).unlink()
    (run / "metrics.csv").write_text("epoch,step,train/loss,val/psnr\n0,4,0.5,\n0,9,0.25,31\n1,14,nan,\nx,y,z,\n")
    text = report(tmp_path, run)
    assert '"train/loss",0,[[4.0,0.5],[9.0,0.25]]' in text
    assert "31 (step 10)" in text


def test_options_are_compared_with_their_defaults_and_nothing_of_others_is_imported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("raise SystemExit('imported')")
    run = json.loads((write_run(tmp_path / "run") / "run.json").read_text())
    found = {option: (value, default) for option, value, default in changed_options(run["configuration"])}
    assert found.pop("word") == ("word", "")
    assert found.pop("model") == ("trainers.RestorationTask", "")
    assert found == {
        "seed_everything": (3, "0"),
        "trainer.max_steps": (30, "-1"),
        "trainer.precision": ("bf16-mixed", "null"),
        "model.net": ("glmha.Restormer", "null"),
        "model.net.dim": (8, "48"),
        "model.optimizer": ("torch.optim.AdamW", found["model.optimizer"][1]),
        "data": ("mine.Data", ""),
        "data.root": ("photos", ""),
    }


@pytest.mark.parametrize(
    ("paths", "output", "message"),
    [
        (["nothing"], "a.html", r"paths \(nothing\) must exist"),
        (["."], "a.html", r"paths \(\.\) must hold runs"),
        (["."], "a.txt", r"output \(a.txt\) must end in .html"),
    ],
)
def test_what_cannot_be_reported_is_refused(tmp_path, monkeypatch, paths, output, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run_report([Path(path) for path in paths], output=Path(output))
    assert list(tmp_path.iterdir()) == []
