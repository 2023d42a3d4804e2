"""`lowrank data` tells where data sets are, and fetches what a program can."""

import json

import pytest

from datamodules.preparation.sources import published_sources
from trainers.commands import data_sets


def test_all_are_listed_and_one_is_described(lowrank, capsys):
    assert lowrank("data") == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()[:-2]} == published_sources().keys()
    assert lowrank("data", "gopro") == 0
    out = capsys.readouterr().out
    assert "terms: CC BY 4.0" in out
    assert "GOPRO_Large/{train,test}/GOPRxxxx_xx_xx/{blur,sharp}" in out
    assert lowrank("data", "rain13k", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["module"] == "Rain13kDataModule"


def test_what_a_program_can_fetch_is_fetched_once(lowrank, tmp_path, monkeypatch, capsys):
    asked = []

    def fetch(address, target, argument, largest):
        asked.append(address)
        target.parent.mkdir(exist_ok=True)
        target.touch()

    monkeypatch.setattr(data_sets, "fetch", fetch)
    for _ in range(2):
        assert lowrank("data", "div2k", "--output", tmp_path / "here") == 0
    assert [address.rpartition("/")[2] for address in asked] == ["DIV2K.tar", "Flickr2K.tar"]
    assert "kept: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"), [(["gopr"], "did you mean gopro"), (["rain13k", "--output", "x"], "must be null")]
)
def test_what_cannot_be_is_refused(lowrank, capsys, words, message):
    assert lowrank("data", *words) == 2
    assert message in capsys.readouterr().err
