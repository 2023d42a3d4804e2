"""The parts of the demonstration run in their order into one summary."""

import pytest

from trainers.commands.demo import command as demo
from trainers.commands.demo.learned import run_learned_demo
from trainers.commands.demo.spectral import run_spectral_demo
from trainers.commands.demo.substitution import run_substitution_demo
from trainers.commands.demo.video import run_video_demo


def test_parts_run_in_their_order_into_one_summary(tmp_path, monkeypatch, capsys):
    calls = []

    def part(name):
        def run(output, **options):
            calls.append((name, output, options))
            return f"{name} says so"

        return run

    monkeypatch.setattr(demo, "PARTS", {name: part(name) for name in demo.PARTS})
    demo.run_demo([*reversed(demo.PARTS)], output=tmp_path, steps=3)
    assert calls == [(name, tmp_path / name, {"steps": 3}) for name in demo.PARTS]
    calls.clear()
    demo.run_demo(output=tmp_path)
    assert calls == [(name, tmp_path / name, {}) for name in demo.PARTS]
    summary = (tmp_path / "summary.txt").read_text()
    assert summary.index("learned says so") < summary.index("spectral says so") < summary.index("substitution says so")
    shown = capsys.readouterr().out
    # Each part's table is printed when the part ends, with its time.
    for number, name in enumerate(demo.PARTS, start=1):
        began, result = shown.index(f"part {number} of 5: {name}"), shown.index(f"{name} says so")
        assert began < result < shown.index(f"part {number} of 5, {name}, took 0 s")
    assert "the demonstration took 0 s" in shown


@pytest.mark.parametrize(
    "run", [demo.run_demo, run_learned_demo, run_spectral_demo, run_substitution_demo, run_video_demo]
)
def test_steps_must_be_positive(tmp_path, run):
    with pytest.raises(ValueError, match=r"steps \(0\) must be at least 1"):
        run(output=tmp_path, steps=0)


def test_parts_must_be_known(tmp_path):
    with pytest.raises(ValueError, match=r"parts \(spectrum\) must be of learned, spectral, "):
        demo.run_demo(["learned", "spectrum"], output=tmp_path)
    assert list(tmp_path.iterdir()) == []
