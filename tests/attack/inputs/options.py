"""Command lines with values of right and wrong types, unknown, misspelt, repeated and empty options, for every verb."""

import inspect
import random
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.attack.inputs.attack import EITHER, REFUSED, Attack, Ended, Shared, Step, one_of
from tests.attack.inputs.images import differing, random_png, read_independently
from tests.attack.inputs.recipes import run_is_whole
from tests.attack.inputs.values import FORBIDDEN, OPTIONS
from trainers.cli.verbs import FUNCTION_VERBS, TRAINER_VERBS

WORDS = (
    *(
        "",
        " ",
        "0",
        "1",
        "2",
        "-1",
        "8",
        "16",
        "64",
        "3.5",
        "-0.0",
        "1e3",
        "1e400",
        "nan",
        "inf",
        "-inf",
        "0x10",
        "010",
    ),
    *(
        "true",
        "false",
        "True",
        "yes",
        "null",
        "None",
        "[]",
        "[1]",
        "[1, 2]",
        "{}",
        "{a: 1}",
        "[[",
        "{",
        "'",
        '"',
        "*",
        "&a",
    ),
    *(str(2**31), str(2**63), str(-(2**63) - 1), "9" * 400, "é", "\x1b[2J", "\udcff", "a b", "x" * 5000, "%s", "$HOME"),
    *(
        "--help",
        "-",
        "--",
        "--config",
        "/",
        "/dev/null",
        "/dev/zero",
        ".",
        "..",
        "~",
        "nowhere",
        "in",
        "in/a.png",
        "net.pth",
    ),
    *("cpu", "auto", "png", "tif", "bf16", "float32", "gopro", "psnr", "Softmax", "nystra.Softmax", "nystra.Nystrom"),
    *(
        "{class_path: nystra.Nystrom, init_args: {landmarks: 4}}",
        "{class_path: nystra.LandmarkPooling}",
        "!!python/name:os.system",
    ),
    *("@x", "https://example.invalid/x", "a=b", "=", "1,2", "(1, 2)"),
)
"""Words that a command line may hold where a value belongs."""
SMALL = ("restore", "export", "score", "diff", "runs", "info", "recipes", "prepare", "analyze spectrum")
"""Verbs that take no time on small inputs, so that they may succeed."""


def _least(verb: str, shared: Shared) -> list[Any]:
    """The least that a verb needs."""
    pairs = shared.folder / "pairs/val"
    return {
        "restore": ["in", "--pretrained", "net.pth", "--output", "out"],
        "export": ["--checkpoint", "net.pth", "--output", "out/w.pth"],
        "score": [pairs / "input", pairs / "target", "--protocol", "gopro", "--output", "out"],
        "diff": ["a", "a", "--output", "out/d.png"],
        "runs": [shared.folder / "logs"],
        "info": [],
        "recipes": [],
        "prepare": ["gopro", "--source", "in"],
        "analyze spectrum": ["in", "--pretrained", "net.pth", "--output", "out"],
    }[verb]


def options_of(verb: str) -> list[str]:
    """Names of a verb's options, from its function."""
    entry = FUNCTION_VERBS[verb]
    return list(inspect.signature(getattr(import_module(entry.module), entry.function)).parameters)


def _inputs(chance: random.Random, folder: Path, shared: Shared) -> Any:
    picture = random_png(chance)
    (folder / "in").mkdir()
    (folder / "in/a.png").write_bytes(picture.data)
    (folder / "net.pth").write_bytes(shared.identity.read_bytes())
    (folder / "a").mkdir()
    (folder / "a/metrics.json").write_text(
        '{"metrics": {"psnr": "PSNR"}, "sets": {"s": {"per_image": {"1": {"psnr": 1.0}}}}}'
    )
    return picture


def _functions(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    """A verb of small inputs with a value or two drawn for any of its options."""
    picture = _inputs(chance, folder, shared)
    verb = chance.choices(SMALL, (6, 2, 2, 2, 1, 1, 1, 2, 2))[0]
    words: list[Any] = [*verb.split(), *_least(verb, shared)]
    drawn = []
    for _ in range(chance.choice((1, 1, 2))):
        name, word = chance.choice(options_of(verb)), chance.choice(WORDS)
        joined = chance.random() < 0.5 or word.startswith("-")
        drawn += [f"--{name}={word}"] if joined else [f"--{name}", word]
    words += drawn

    def check(folder: Path, ended: Ended) -> str | None:
        result = folder / "out/a.png"
        if verb != "restore" or ended.status != 0 or not result.is_file() or any("bf16" in str(word) for word in words):
            return None
        # Whatever the tiles: the network changes nothing. A kernel may be refused by it, and nothing else.
        return differing(read_independently(result), picture.pixels, 0)

    return Attack(" ".join(map(str, words))[:300], [Step(words, EITHER)], ("*",), check=check)


def _trainers(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    """Training or evaluation with a value for any option, deep ones too."""
    verb = chance.choice(("fit", "fit", "validate", "test", "predict"))
    places = [place for place in OPTIONS if place != ("config",)]
    more = (
        "model.net.depths",
        "model.net.embed_dim",
        "model.net",
        "data",
        "model",
        "trainer.logger",
        "data.batch_size",
        "model.optimizer.lr",
        "model.metrics",
        "trainer.max_time",
        "data.patch_size",
        "data.num_workers",
    )
    name = chance.choice((".".join(part for part in chance.choice(places) if part != "init_args"), chance.choice(more)))
    word = chance.choice((*WORDS, *FORBIDDEN))
    bounds = ["--trainer.max_steps", "1", "--trainer.limit_val_batches", "1"] if verb == "fit" else []
    words = [verb, "--config", shared.recipe, "--trainer.logger.save_dir", "logs", f"--{name}={word}", *bounds]
    return Attack(" ".join(map(str, words[5:]))[:300], [Step(words, EITHER)], ("*",), check=run_is_whole)


def _unknown(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    """Verbs and options that there are not."""
    _inputs(chance, folder, shared)
    verbs = [*FUNCTION_VERBS, *TRAINER_VERBS]
    verb = chance.choice(verbs)
    kind = chance.randrange(4)
    if kind == 0:
        mangled = chance.choice(
            (verb[:-1], verb.upper(), f"{verb}x", verb.replace("e", ""), "", " ", "é", "\x1b[2J", "\udcff", "x" * 1000)
        )
        words = [mangled] if mangled not in verbs else ["nothing"]
    elif kind == 1:
        words = [
            *verb.split(),
            f"--{chance.choice(('x', 'outputt', 'no.such', '', '.', 'é', chr(27)))}",
            chance.choice(WORDS[:30]),
        ]
    elif kind == 2:
        words = [
            *verb.split(),
            "--config",
            chance.choice(("nothing.yaml", "in", "in/a.png", "net.pth", "/dev/zero", "", "demo", "\udcff")),
        ]
    else:
        words = [
            *verb.split(),
            *(["extra"] * 3),
            f"--{chance.choice(options_of(verb) if verb in FUNCTION_VERBS else ['model'])}",
        ]
    return Attack(" ".join(map(str, words))[:300], [Step(words, REFUSED)])


MAKERS = ((6, _functions), (4, _trainers), (3, _unknown))


def make(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    """Draw a command line."""
    return one_of(chance, MAKERS, folder, shared)
