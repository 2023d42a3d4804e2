"""Hostile records: what runs, evaluations and preparations leave, changed at a place or replaced as a whole."""

import copy
import json
import math
import os
import random
import shutil
from pathlib import Path
from statistics import fmean
from typing import Any

import h5py
import numpy as np

from datamodules.files.packs import PACK_NAME, write_pack
from tests.attack.inputs.attack import DONE, EITHER, Attack, Ended, Shared, Step, one_of
from tests.attack.inputs.images import damaged
from tests.attack.inputs.recipes import places, put
from tests.datamodules.conftest import write_pairs

VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 7, 2**70, -(2**70), 10**400, 0.5, 1e308, math.nan, math.inf, -math.inf),
    *("", "x", "\x1b[31mred\x1b[0m", "\x07\x00", "\ud800", "é", "2026-01-01", "2026-01-01T00:00:00+00:00", "../../x"),
    *("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "finished", "running", "killed", "x" * 10_000),
    *([], [1], [[]], ["x", None], {}, {"a": 1}, {"a": {"b": []}}, {"": ""}, {"\x1b[2J": "\x9b"}),
)
"""Values that JSON can hold and a record's fields hardly ever do."""
TEXTS = (
    *(b"", b"{", b"[]", b"null", b"3", b'"x"', b"\xff\xfe{}", b"\x00" * 100, b"NaN", b"{}", b'{"state": "finished"}'),
    *(b"[" * 100_000, b'{"a":' * 100_000, b"9" * 100_000, b"\x1b[2J", b'{"sets": {}, "metrics": {}}', b" " * 2**20),
)
"""Files that are no record."""
PLOTS = ("diff.png", "diff.pdf", "diff.csv")
"""Files of the plot of two evaluations."""


def changed_record(content: Any, chance: random.Random) -> tuple[bytes, str]:
    """A record with a value or two of another kind, or lacking one, or cut, or another text at all; and what it is."""
    way = chance.choice(("value", "value", "value", "remove", "text", "cut", "damaged", "twice"))
    content = copy.deepcopy(content)
    what = way
    if way in ("value", "remove"):
        for _ in range(chance.choice((1, 1, 2))):
            place = chance.choice(list(places(content)))
            value = chance.choice(VALUES)
            what = f"{'.'.join(map(str, place))}: {str(value)[:40]!r}"
            put(content, place, value)
            if way == "remove":
                inner = content
                for key in place[:-1]:
                    inner = inner[key]
                del inner[place[-1]]
                what = f"without {'.'.join(map(str, place))}"
                break
    data = json.dumps(content, indent=chance.choice((None, 2))).encode()
    if way == "text":
        data = chance.choice(TEXTS)
        what = f"text {data[:20]!r}"
    elif way == "cut":
        data = data[: chance.randrange(len(data))]
    elif way == "damaged":
        data = damaged(data, chance)
    elif way == "twice":
        data += data
    return data, what


def _runs(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    """A hostile record of a run beside a sound one, listed."""
    sound, other = folder / "logs/run/version_0", folder / "logs/run/version_1"
    for target in (sound, other):
        shutil.copytree(shared.run, target)
    record = json.loads((shared.run / "run.json").read_text())
    record |= {
        "state": chance.choice(("failed", "running", "interrupted")),
        "resumed_from": str(sound / "checkpoints/last.ckpt"),
    }
    data, what = changed_record(record, chance)
    (other / "run.json").write_bytes(data)
    if chance.random() < 0.3:
        shutil.rmtree(other / "checkpoints")
    special = chance.choice(("", "", "", "", "pipe", "link", "folder", "config"))
    if special and special != "config":
        (other / "run.json").unlink()
    if special == "pipe":
        os.mkfifo(other / "run.json")
    elif special == "link":
        (other / "run.json").symlink_to(chance.choice(("/dev/zero", "run.json", "/nowhere", "../version_0")))
    elif special == "folder":
        (other / "run.json").mkdir()
    elif special == "config":
        (other / "config.yaml").write_bytes(chance.choice(TEXTS))
    as_json = chance.random() < 0.4

    def check(folder: Path, ended: Ended) -> str | None:
        if not as_json:
            lines = [
                line
                for line in ended.out.splitlines()
                if line.split()[:2] in (["version_0", "finished"], ["run/version_0", "finished"])
            ]
            # Of a single run, or on a narrow terminal, the name stands alone.
            return (
                None
                if lines or ("version_0" in ended.out and "finished" in ended.out)
                else f"the sound run is not listed: {ended.out!r}"
            )
        listed = {Path(each["folder"]).name: each for each in json.loads(ended.out)}
        if listed["version_0"]["run"]["state"] != "finished" or listed["version_0"]["run"]["last_step"] != 10:
            return f"the sound run is listed as {listed['version_0']}"
        return None

    step = Step(["runs", "logs", *(["--json"] if as_json else [])], DONE)
    return Attack(f"run.json with {special or what}", [step], check=check)


def evaluation(chance: random.Random, images: int) -> dict[str, Any]:
    """What an evaluation writes of some images."""
    rows = {f"{number}": {"psnr": chance.uniform(20, 40), "ssim": chance.random()} for number in range(images)}
    return {
        "metrics": {"psnr": "PSNR on RGB", "ssim": "SSIM on RGB"},
        "higher_is_better": {"psnr": True, "ssim": True},
        "sets": {"set": {"images": images, "per_image": rows}},
        "average": {"psnr": 30.0, "ssim": 0.5},
    }


def _diff(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    """Two evaluations compared, one of them hostile."""
    images = chance.choice((1, 2, 30))
    contents = [evaluation(chance, images) for _ in range(2)]
    what = "whole"
    for number, content in enumerate(contents):
        (folder / str(number)).mkdir()
        data = json.dumps(content).encode()
        if number and chance.random() < 0.85:
            data, what = changed_record(content, chance)
        (folder / str(number) / "metrics.json").write_bytes(data)
    metric = chance.choice((None, "psnr", "ssim", "nope"))
    options = [] if metric is None else ["--metric", metric]
    if chance.random() < 0.5:
        options += ["--common", "true"]

    def check(folder: Path, ended: Ended) -> str | None:
        if ended.status != 0:
            return next((f"{plot} was left" for plot in PLOTS if (folder / plot).exists()), None)
        first, second = (json.loads((folder / str(number) / "metrics.json").read_text()) for number in range(2))
        rows = [
            {(name, image): row for name, values in each["sets"].items() for image, row in values["per_image"].items()}
            for each in (first, second)
        ]
        name = metric or next(
            name for name in first["metrics"] if second["metrics"].get(name) == first["metrics"][name]
        )
        changes = [float(rows[1][key][name]) - float(rows[0][key][name]) for key in rows[0] if key in rows[1]]
        expected = f"mean change {fmean(changes):+.4g};"
        return None if expected in ended.out else f"{expected} is not what was printed: {ended.out!r}"

    return Attack(
        f"metrics.json {what}", [Step(["diff", "0", "1", "--output", "diff.png", *options])], PLOTS, check=check
    )


def _prepared(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    """A preparation that goes on from, or looks at, what a hostile hand has left."""
    write_pairs(folder / "source/GoPro/train", ["a", "b", "c"], size=(20, 24))
    arguments = [
        "prepare",
        "gopro",
        "--source",
        "source",
        "--output",
        "out",
        "--crop_size",
        "12",
        "--step",
        "8",
        "--workers",
        "0",
    ]
    packed = chance.random() < 0.3
    arguments += ["--pack"] if packed else []
    finished, unfinished = folder / "out/GoPro/train", folder / "out/GoPro/.train.unfinished"
    number = chance.getrandbits(32)
    kind = chance.choice(("prepared.json", "settings.json", "log", "crops"))

    def disturb() -> None:
        inner = random.Random(number)
        record = json.loads((finished / "prepared.json").read_text())
        if kind == "prepared.json":
            (finished / "prepared.json").write_bytes(changed_record(record, inner)[0])
            return
        # As a run leaves it that is killed before its end.
        unfinished.mkdir()
        settings = {key: value for key, value in record.items() if key not in ("images", "crops", "source")}
        log = [
            {
                "name": name,
                "crops": 6,
                "bytes": [
                    (folder / f"source/GoPro/train/{half}/{name}.png").stat().st_size for half in ("input", "target")
                ],
            }
            for name in "ab"
        ]
        if packed:
            shutil.rmtree(finished)
        else:
            (finished / "prepared.json").unlink()
            finished.rename(unfinished / "crops")
        data, lines = json.dumps(settings).encode(), b"".join(json.dumps(line).encode() + b"\n" for line in log)
        if kind == "settings.json":
            data = changed_record(settings, inner)[0]
        elif kind == "log":
            lines = b"".join(changed_record(line, inner)[0] + b"\n" for line in log)
        elif not packed:
            for path in sorted((unfinished / "crops").rglob("*.png"))[:: inner.choice((1, 2, 5))]:
                inner.choice((path.unlink, lambda path=path: path.with_name("x.png").write_bytes(b"")))()
        (unfinished / "settings.json").write_bytes(data)
        (unfinished / "log").write_bytes(lines)

    def check(folder: Path, ended: Ended) -> str | None:
        if ended.status != 0:
            return None
        for half in ("input", "target"):
            if packed:
                with h5py.File(finished / half / PACK_NAME) as file:
                    count = len(file)
            else:
                count = len(list((finished / half).glob("*.png")))
            if count != 18:
                return f"{count} crops of {half}, expected 18"
        return None

    steps = [Step(arguments, DONE), Step(arguments, EITHER, prepare=disturb)]
    return Attack(f"{kind} of a preparation{' of packs' * packed}, {number}", steps, ("out/*",), check=check)


def _packs(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    """A pack of images that holds other things, is cut, or damaged."""
    numbers = np.random.default_rng(chance.getrandbits(32))
    images = {name: numbers.integers(0, 256, (16, 18, 3), np.uint8) for name in ("a.png", "b.png")}
    for half in ("restored", "target"):
        write_pack(folder / half, images.items())
    pack = folder / "restored" / PACK_NAME
    kind = chance.choice(
        ("whole", "cut", "damaged", "group", "type", "dimensions", "scalar", "text", "huge", "empty", "link", "pipe")
    )
    if kind in ("cut", "damaged"):
        data = pack.read_bytes()
        pack.write_bytes(data[: chance.randrange(len(data))] if kind == "cut" else damaged(data, chance))
    elif kind == "pipe":
        pack.unlink()
        os.mkfifo(pack)
    elif kind != "whole":
        with h5py.File(pack, "a") as file:
            if kind != "empty":
                del file["a.png"]
            if kind == "group":
                file.create_group("a.png")
            elif kind == "type":
                file["a.png"] = images["a.png"].astype(
                    chance.choice((np.float64, np.int64, np.complex64, np.int8, bool))
                )
            elif kind == "dimensions":
                file["a.png"] = numbers.integers(
                    0, 256, chance.choice(((16, 18), (16, 18, 3, 1), (0, 18, 3), (16, 18, 5), (3,))), np.uint8
                )
            elif kind == "scalar":
                file["a.png"] = 3
            elif kind == "text":
                file["a.png"] = "\x1b[2J"
            elif kind == "huge":
                file.create_dataset("a.png", (10**6, 10**6, 3), np.uint8, chunks=(16, 16, 3))
            elif kind == "link":
                file["a.png"] = chance.choice(
                    (h5py.SoftLink("/a.png"), h5py.ExternalLink("/etc/hostname", "/x"), h5py.SoftLink("/no"))
                )
            else:
                del file["a.png"]
                file.create_dataset("a.png", (0,), np.uint8)

    def check(folder: Path, ended: Ended) -> str | None:
        if kind == "whole" and ended.status != 0:
            return ended.err
        if ended.status == 0 and "inf" not in ended.out and kind != "damaged":
            return f"scored though it is not the same: {ended.out!r}"
        return None

    step = Step(["score", "restored", "target", "--metrics", "[trainers.metrics.PSNR]"], EITHER)
    return Attack(f"pack: {kind}", [step], ("*",), check=check)


MAKERS = ((5, _runs), (4, _diff), (2, _prepared), (2, _packs))


def make(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    """Write a record and let a verb read it."""
    return one_of(chance, MAKERS, folder, shared)
