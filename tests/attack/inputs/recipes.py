"""Hostile and unusual recipes: YAML that does not end, names that must not be imported, values of every type."""

import copy
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import yaml

from tests.attack.inputs.attack import DONE, EITHER, REFUSED, Attack, Ended, Shared, Step, one_of
from tests.attack.inputs.images import damaged
from tests.attack.inputs.values import DECIDED, FORBIDDEN, HOSTILE, LIKELY, OPTIONS, VALUES
from tests.trainers.checkpoints.resuming import Ends
from trainers.runs.run import read_run


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a recipe, from the outside in."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*place, key)
        yield from places(inner, (*place, key))


def at(content: Any, place: tuple[Any, ...]) -> Any:
    """What is at a place of a recipe; None if nothing is."""
    for key in place:
        content = content.get(key) if isinstance(content, dict) else content[key] if isinstance(content, list) else None
    return content


def like(value: Any, other: Any) -> bool:
    """Whether two values are of one type, whole numbers and others alike."""
    number = (int, float)
    return type(value) is type(other) or (type(value) in number and type(other) in number)


def put(content: Any, place: tuple[Any, ...], value: Any) -> None:
    """Set what is at a place of a recipe, with what must be around it."""
    for key in place[:-1]:
        if isinstance(content, dict) and not isinstance(content.get(key), dict | list):
            content[key] = {}
        content = content[key]
    content[place[-1]] = value


def content_of(shared: Shared) -> dict[str, Any]:
    """The recipe as values, logging below the working directory."""
    content = yaml.safe_load(shared.recipe.read_text())
    content["trainer"]["logger"]["init_args"]["save_dir"] = "logs"
    return content


def training(name: str, statuses: tuple[int, ...], *options: Any, verb: str = "fit") -> Step:
    """One step of training by a recipe, whatever else the recipe asks for."""
    bounds = ["--trainer.max_steps", "1"] if verb == "fit" else []
    return Step([verb, "--config", name, *bounds, *options], statuses)


def run_is_whole(folder: Path, ended: Ended) -> str | None:
    """What is wrong with the log folders below a folder after a training, or a refusal of one."""
    for config in folder.rglob("config.yaml"):
        run = read_run(config.parent)
        checkpoints = list(config.parent.glob("checkpoints/*.ckpt"))
        if run is None and not checkpoints and ended.status == 2:
            return f"{config.parent.relative_to(folder)} was left, though nothing was trained"
        if ended.status == 0 and run is not None and run.state not in ("finished", "stopped early"):
            return f"the run is {run.state}"
        for path in checkpoints:
            weights = torch.load(path, weights_only=True)["state_dict"]
            if not all(value.isfinite().all() for value in weights.values()):
                return f"{path.name} holds weights that are not finite"
    return None


def _write(folder: Path, content: Any) -> str:
    (folder / "recipe.yaml").write_text(yaml.safe_dump(content, allow_unicode=True, sort_keys=False))
    return "recipe.yaml"


def _values(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    content, changes = content_of(shared), []
    for _ in range(chance.choice((1, 1, 2))):
        place = chance.choice(chance.choice((list(places(content)), OPTIONS)))
        value = copy.deepcopy(chance.choice(VALUES))
        former = at(content, place)
        if chance.random() < 0.6 and former is not None:
            # Of the right type, it comes further.
            value = copy.deepcopy(
                chance.choice([other for other in (*VALUES, *LIKELY) if like(other, former)] or [value])
            )
        elif chance.random() < 0.5:
            value = copy.deepcopy(chance.choice(LIKELY))
        put(content, place, value)
        changes.append(f"{'.'.join(map(str, place))}: {value!r}")
    step = training(_write(folder, content), EITHER)

    def check(folder: Path, ended: Ended) -> str | None:
        if wrong := run_is_whole(folder, ended):
            return wrong
        configs = list(folder.rglob("config.yaml"))
        if ended.status != 0 or not configs or len(changes) > 1 or place in DECIDED:
            return None
        saved = at(yaml.safe_load(configs[0].read_text()), place)
        # A class may be given by its name alone.
        saved = saved.get("class_path", saved) if isinstance(saved, dict) and isinstance(value, str) else saved
        ignored = value not in (None, "", {}) and isinstance(value, list | dict) != isinstance(saved, list | dict)
        return (
            f"{place} was taken for {saved!r}" if ignored or (saved is None and value not in (None, "null")) else None
        )

    return Attack(f"recipe with {', '.join(changes)}", [step], ("*",), check=check)


def _names(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    """A class that no recipe may name, wherever classes are named."""
    content, name = content_of(shared), chance.choice(FORBIDDEN)
    named = [place for place in places(content) if place[-1] == "class_path"]
    place = chance.choice(named)
    value = chance.choice((name, name, [name], {"class_path": name}))
    if chance.random() < 0.3:
        more = (
            "trainer.callbacks",
            "trainer.plugins",
            "trainer.profiler",
            "model.init_args.loss",
            "model.init_args.net.init_args.attention",
        )
        place, value = (
            tuple(chance.choice(more).split(".")),
            {"class_path": name, "init_args": {"args": "touch executed"}},
        )
        value = [value] if place[-1] == "callbacks" else value
    put(content, place, value)
    what = f"{'.'.join(map(str, place))}: {value}"
    return Attack(what, [training(_write(folder, content), REFUSED)], check=run_is_whole)


def _keys(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    """A key that is misspelt, of another type, or twice."""
    content = content_of(shared)
    place = chance.choice(
        [
            place
            for place in places(content)
            if isinstance(place[-1], str) and place[-1] not in ("class_path", "init_args")
        ]
    )
    inner: Any = content
    for key in place[:-1]:
        inner = inner[key]
    key = place[-1]
    other = chance.choice(
        (f"{key}x", key[1:] or "x", key.upper(), f" {key}", f"{key}.x", 3, 1.5, True, "\x1b[2J", "class_path.x")
    )
    inner[other] = inner.pop(key)
    # A required option may be gone; another word may be another option.
    return Attack(
        f"{'.'.join(map(str, place))} as {other!r}",
        [training(_write(folder, content), EITHER)],
        ("*",),
        check=run_is_whole,
    )


def _texts(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    """What is no recipe at all, or one in another encoding, cut or damaged."""
    text = yaml.safe_dump(content_of(shared))
    kind = chance.choice(("hostile", "letters", "encoding", "cut", "damaged", "included", "large"))
    statuses, verb = REFUSED, chance.choice(("fit", "validate", "test"))
    options: list[str] = []
    if kind == "hostile":
        name = chance.choice(sorted(HOSTILE))
        kind, data = f"hostile: {name}", HOSTILE[name].encode()
    elif kind == "letters":
        data = "".join(chance.choices("a1&*:-[]{}<>!|'\"#,\n\t ?.%@", k=chance.randrange(60))).encode()
    elif kind == "encoding":
        encoding = chance.choice(("utf-16", "latin-1", "utf-32", "utf-7"))
        kind, data = encoding, f"# für Fotos\n{text}\nx: é".encode(encoding)
    elif kind == "cut":
        statuses, data = EITHER, text[: chance.randrange(len(text))].encode()
    elif kind == "damaged":
        statuses, data = EITHER, damaged(text.encode(), chance)
    elif kind == "large":
        data = f"# {'x' * 2**20}\n{text}".encode()
    else:
        content = content_of(shared)
        put(content, ("model", "init_args", "net"), "net.yaml")
        (folder / "net.yaml").write_text(chance.choice(list(HOSTILE.values())))
        data = yaml.safe_dump(content).encode()
    (folder / "recipe.yaml").write_bytes(data)
    options += ["--trainer.limit_val_batches", "1"] if verb == "validate" else []
    return Attack(
        f"{kind}, {verb}", [training("recipe.yaml", statuses, *options, verb=verb)], ("*",), check=run_is_whole
    )


def _sound(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    """The recipe in another form, which trains to the same bits."""
    content = content_of(shared)
    form = chance.choice(("flow", "json", "mark", "aliases", "reordered", "windows lines", "quoted", "split"))
    text, names = yaml.safe_dump(content), ["recipe.yaml"]
    if form == "flow":
        text = yaml.safe_dump(content, default_flow_style=True)
    elif form == "json":
        text = json.dumps(content)
    elif form == "mark":
        text = "\ufeff# ä\n" + text
    elif form == "aliases":
        inner = content["model"]["init_args"]["net"]["init_args"]
        text = yaml.safe_dump({**content, "best_checkpoint": None}).replace("best_checkpoint: null\n", "")
        text = text.replace("depths:", "depths: &d", 1) if inner["depths"] == [] else text
        text = (
            text.replace("max_steps: 10", "max_steps: &steps 10").replace("T_max: 10", "T_max: *steps")
            if text.index("T_max") > text.index("max_steps")
            else text
        )
    elif form == "reordered":
        keys = list(content)
        chance.shuffle(keys)
        text = yaml.safe_dump({key: content[key] for key in keys}, sort_keys=False)
    elif form == "windows lines":
        text = text.replace("\n", "\r\n")
    elif form == "quoted":
        text = yaml.safe_dump(content, default_style=None, width=20)
    else:
        # The later of two recipes adds to the first.
        names.append("more.yaml")
        (folder / "more.yaml").write_text(yaml.safe_dump({"data": content.pop("data")}))
        text = yaml.safe_dump(content)
    (folder / "recipe.yaml").write_bytes(text.encode())
    options = [word for name in names for word in ("--config", name)]
    return Attack(f"whole recipe: {form}", [Step(["fit", *options], DONE)], ("logs/*",), check=same_as(shared.run))


def same_as(run: Path) -> Callable[[Path, Ended], str | None]:
    """A check that training came to the same bits as another run."""

    def check(folder: Path, ended: Ended) -> str | None:
        differing = Ends.of(folder / "logs").differing(Ends.of(run))
        return f"other {', '.join(differing)} than without interruption" if differing else None

    return check


MAKERS = ((10, _values), (6, _names), (4, _keys), (6, _texts), (1, _sound))


def make(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    """Write a recipe and train or evaluate by it."""
    return one_of(chance, MAKERS, folder, shared)
