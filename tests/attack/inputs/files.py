"""Hostile file systems: names, links, pipes, folders that cannot be written, disks that are full, outputs on inputs."""

import json
import os
import random
import resource
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import torch

from tests.attack.inputs.attack import DONE, EITHER, REFUSED, Attack, Ended, Shared, Step, one_of
from tests.attack.inputs.images import differing, random_png, read_independently

NAMES = (
    *(
        "a b.png",
        "[bold]x.png",
        "-x.png",
        "--output.png",
        "a\nb.png",
        "\x1b[31mred.png",
        "'\"`.png",
        "$(touch executed).png",
    ),
    *(
        "é.png",
        "e\u0301.png",
        "日本.png",
        "😀.png",
        "\u202egnp.png",
        "a.b.c.png",
        "a..png",
        "a.PNG",
        "%s%d{}.png",
        ":colon:.png",
    ),
    *(f"{'c' * 251}.png", f"{'é' * 125}.png", " .png", "a.png ", "~.png", "*.png", "a\\b.png", "CON.png", "x.tmp.png"),
    os.fsdecode(b"\xff\xfe.png"),
)
"""Names that file systems hold and programs stumble over."""
NOBODY = 65534


def _names(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    """Pictures of hostile names are restored under their names."""
    pictures = {name: random_png(chance) for name in chance.sample(NAMES, 3)}
    inner = folder / chance.choice(("in", "in [x]", "in\n", "-in", "..."))
    inner.mkdir()
    for name, picture in pictures.items():
        (inner / name).write_bytes(picture.data)
    given = inner if inner.name.startswith("-") else Path(inner.name)

    def check(folder: Path, ended: Ended) -> str | None:
        for name, picture in pictures.items():
            if not name.lower().endswith(".png"):
                continue
            if wrong := differing(read_independently(folder / "out" / name), picture.pixels, 0):
                return f"{name!r}: {wrong}"
        return None

    step = Step(["restore", given, "--pretrained", shared.identity, "--output", "out"], DONE)
    return Attack(f"names {list(pictures)} in {inner.name!r}", [step], ("out/*",), check=check)


def _special(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    """Pipes, devices and links among pictures, in the place of any file that a verb reads."""
    picture = random_png(chance)
    (folder / "in").mkdir()
    (folder / "in/whole.png").write_bytes(picture.data)
    kind = chance.choice(("pipe", "device", "loop", "dangling", "folder", "itself", "socket", "null"))
    where = chance.choice(("picture", "picture", "checkpoint", "config", "records", "output"))
    name = {"picture": "in/x.png", "checkpoint": "net.pth", "config": "options.yaml", "records": "1", "output": "out"}[
        where
    ]
    path = folder / name
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            os.chdir(path.parent)
            bound.bind(path.name)
    elif kind == "folder":
        path.mkdir()
    else:
        targets = {"device": "/dev/zero", "loop": path.name, "dangling": "nowhere", "itself": ".", "null": "/dev/null"}
        path.symlink_to(targets[kind])
    restore = ["restore", "in", "--pretrained", shared.identity, "--output", "results"]
    arguments = {
        "picture": restore,
        "checkpoint": ["export", "--checkpoint", "net.pth", "--output", "weights.pth"],
        "config": [*restore, "--config", "options.yaml"],
        "records": ["diff", "1", "1"],
        "output": ["restore", "in/whole.png", "--pretrained", shared.identity, "--output", "out"],
    }[where]

    def check(folder: Path, ended: Ended) -> str | None:
        if ended.status != 0:
            return None
        result = folder / ("out" if where == "output" else "results") / "whole.png"
        return differing(read_independently(result), picture.pixels, 0)

    return Attack(
        f"{kind} as {where}", [Step(arguments, EITHER)], ("results/*", "out/*", "nowhere/*", "whole.png"), check=check
    )


def commands(folder: Path, shared: Shared) -> dict[str, list[Any]]:
    """Commands that write something, each into `out` or a file of that name."""
    pairs = shared.folder / "pairs/val"
    return {
        "restore": ["restore", pairs / "input", "--pretrained", shared.identity, "--output", "out"],
        "export": ["export", "--checkpoint", shared.identity, "--output", "out/out.pth"],
        "score": ["score", pairs / "input", pairs / "target", "--protocol", "gopro", "--output", "out"],
        "diff": ["diff", folder / "results", folder / "results", "--output", "out/out.png"],
        "spectrum": ["analyze", "spectrum", pairs / "input", "--pretrained", shared.identity, "--output", "out"],
        "fit": ["fit", "--config", shared.recipe, "--trainer.logger.save_dir", "out", "--trainer.max_steps", "4"],
        "predict": [
            "test",
            "--config",
            shared.recipe,
            "--trainer.logger.save_dir",
            "out",
            "--ckpt_path",
            shared.run / "checkpoints/last.ckpt",
            "--data.test_input",
            pairs / "input",
            "--data.test_target",
            pairs / "target",
        ],
    }


def _with_results(folder: Path) -> None:
    (folder / "results").mkdir()
    rows = {"1": {"psnr": 30.0}, "2": {"psnr": 31.0}}
    content = {"metrics": {"psnr": "PSNR"}, "sets": {"set": {"images": 2, "per_image": rows}}}
    (folder / "results/metrics.json").write_text(json.dumps(content))


def whole_or_absent(folder: Path, ended: Ended) -> str | None:
    """What is wrong with the files below `out`: each must be readable to its end."""
    for path in (folder / "out").rglob("*"):
        if path.suffix == ".png":
            if read_independently(path).size == 0:
                return f"{path.name} is empty"
        elif path.suffix in (".pth", ".ckpt"):
            torch.load(path, weights_only=True)
        elif path.suffix == ".json":
            json.loads(path.read_text())
    return None


def _full(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    """A disk that is full after some bytes of a file."""
    _with_results(folder)
    verb = chance.choices(("restore", "export", "score", "diff", "spectrum", "fit", "predict"), (4, 3, 2, 2, 2, 2, 1))[
        0
    ]
    # What is printed must fit as well.
    limit = int(2 ** chance.uniform(13, 18))
    step = Step(
        commands(folder, shared)[verb],
        EITHER,
        prepare=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    return Attack(f"{verb} with {limit} bytes for a file", [step], ("out/*",), check=whole_or_absent)


def _closed(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    """A folder that cannot be written or entered, by a user who is not the administrator."""
    _with_results(folder)
    verb = chance.choice(("restore", "export", "score", "diff", "spectrum", "fit"))
    mode = chance.choice((0o555, 0o000, 0o444))
    made = chance.random() < 0.5

    def prepare() -> None:
        folder.chmod(0o755)
        target = folder / "out" if made else folder
        if made:
            target.mkdir()
        target.chmod(mode if made else 0o555)
        if os.geteuid() == 0:
            os.seteuid(NOBODY)

    return Attack(
        f"{verb} into a folder of mode {mode:o}", [Step(commands(folder, shared)[verb], REFUSED, prepare=prepare)]
    )


def _upon_inputs(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    """Results that would be inputs, by the same name, another name, a link or a suffix."""
    picture = random_png(chance)
    (folder / "in").mkdir()
    for name in ("a.png", "a_r.png"):
        (folder / "in" / name).write_bytes(picture.data)
    shutil.copy(shared.identity, folder / "net.pth")
    (folder / "link").symlink_to("in")
    (folder / "net2.pth").symlink_to("net.pth")
    os.link(folder / "net.pth", folder / "net3.pth")
    os.link(folder / "in/a.png", folder / "b.png")
    overwrite = ["--overwrite", chance.choice(("true", "false"))]
    restore = ["restore", "--pretrained", "net.pth", *overwrite]
    ways = (
        [*restore, "in", "--output", "in"],
        [*restore, "in", "--output", "link"],
        [*restore, "in/a.png", "--output", "in/../in"],
        [*restore, "in/a.png", "in/a_r.png", "--suffix", "_r", "--output", "in"],
        [*restore, "b.png", "--output", "."],
        [*restore, "link/a.png", "--output", "in"],
        [*restore, "in", "--output", "net.pth"],
        ["export", "--checkpoint", "net.pth", "--output", "net.pth"],
        ["export", "--checkpoint", "net2.pth", "--output", "net.pth"],
        ["export", "--checkpoint", "net.pth", "--output", "net2.pth"],
        ["export", "--checkpoint", "net3.pth", "--output", "net.pth"],
        ["export", "--checkpoint", "net.pth", "--output", "in/../net.pth"],
    )
    arguments = chance.choice(ways)
    return Attack(" ".join(map(str, arguments)), [Step(arguments, REFUSED)], ("results/*",))


def _outputs(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    """Outputs that no file can have, or where something else is."""
    _with_results(folder)
    (folder / "file").write_text("mine")
    (folder / "full").symlink_to("/dev/full")
    (folder / "loop").symlink_to("loop")
    verb = chance.choice(("restore", "export", "score", "diff", "spectrum", "fit"))
    place = chance.choice(
        (
            "file/x",
            "loop/x",
            "full/x",
            "file",
            "loop",
            "/dev/full/x",
            "/proc/nothing",
            "x" * 300,
            "x\0y",
            "/nowhere/x" + "/y" * 3000,
        )
    )
    arguments = [
        f"{place}{'/' * (not place.endswith('/'))}{Path(str(word)).name}"
        if str(word).startswith("out/")
        else place
        if word == "out"
        else word
        for word in commands(folder, shared)[verb]
    ]
    return Attack(f"{verb} into {place[:50]!r}", [Step(arguments, REFUSED)])


def _surroundings(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    """No working directory, no output, no space for what is printed, few open files, no home."""
    kind = chance.choice(("no folder", "no output", "no errors", "full output", "few files", "no home", "odd locale"))
    (folder / "gone").mkdir()

    def prepare() -> None:
        if kind == "no folder":
            os.chdir("gone")
            (folder / "gone").rmdir()
        elif kind in ("no output", "no errors"):
            name = "stdout" if kind == "no output" else "stderr"
            os.close(getattr(sys, name).fileno())
            # As Python starts where a stream is closed.
            setattr(sys, name, None)
        elif kind == "full output":
            os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
        elif kind == "few files":
            resource.setrlimit(resource.RLIMIT_NOFILE, (chance.choice((12, 20, 40)), 40))
        elif kind == "no home":
            for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME"):
                os.environ[name] = "/nowhere"
        else:
            sys.stdout.reconfigure(encoding="ascii")
            sys.stderr.reconfigure(encoding="ascii")

    pairs = shared.folder / "pairs/val"
    verbs = (
        ["info"],
        ["recipes"],
        ["runs", shared.folder / "logs"],
        ["restore", pairs / "input", "--pretrained", shared.identity, "--output", folder / "out"],
        ["restore", pairs / "nothing", "--pretrained", shared.identity, "--output", folder / "out"],
        ["score", pairs / "input", pairs / "target", "--protocol", "gopro"],
        ["--help"],
        ["fit", "--help"],
        ["restore", "--help"],
        ["fit", "--config", "nothing.yaml"],
    )
    # Where no message can be read, none is asked for.
    arguments = chance.choice([verb for verb in verbs if kind != "no errors" or "nothing" not in str(verb)])
    what = f"{kind}: {' '.join(map(str, arguments))}"
    return Attack(what, [Step(arguments, EITHER, prepare=prepare)], ("out/*", "logs/*", "gone"))


MAKERS = ((3, _names), (3, _special), (4, _full), (2, _closed), (3, _upon_inputs), (3, _outputs), (3, _surroundings))


def make(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    """Make a hostile place and let a verb read or write there."""
    return one_of(chance, MAKERS, folder, shared)
