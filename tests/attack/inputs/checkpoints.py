"""Hostile and unusual checkpoints: containers, names, types, sizes, damage, pickles that would execute."""

import functools
import json
import math
import pickle
import random
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

import glmha
from nystra.hosts.uformer.network import Uformer
from tests.attack.inputs.attack import DONE, EITHER, REFUSED, Attack, Ended, Shared, Step, one_of
from tests.attack.inputs.images import damaged
from tests.attack.inputs.values import CHANGES, NO_CHECKPOINTS, PICKLES, RECORDS, WRAPPERS
from tests.trainers.small_networks import dehazeformer, restormer, swinir

HUGE = 2**40
Weights = dict[str, Tensor]


class Marking:
    """Would make a file if it were unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def write_hostile(path: Path, mark: Path, kind: str) -> None:
    """Write a checkpoint that makes a file in readers which execute what they read."""
    content = {"state_dict": {"a": Marking(mark)}, "pytorch-lightning_version": "2.6.0"}
    if kind == "pickle":
        path.write_bytes(pickle.dumps(content))
    elif kind == "pair":
        # A pickle in the place of the bytes that torch's archives end with.
        torch.save({"a": torch.zeros(1)}, path)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("archive/constants.pkl", pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")


def _uformer() -> nn.Module:
    torch.manual_seed(0)
    return Uformer(img_size=32, embed_dim=4, depths=[1] * 9, num_heads=[1] * 9, win_size=4, mlp_ratio=1.0)


def _mst_plus_plus() -> nn.Module:
    torch.manual_seed(0)
    return glmha.MSTPlusPlus(out_channels=4, n_feat=4, stage=1)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "restormer": restormer,
    "swinir": swinir,
    "dehazeformer": dehazeformer,
    "uformer": _uformer,
    "mst_plus_plus": _mst_plus_plus,
}


@functools.cache
def sound() -> Mapping[str, Weights]:
    """State dict of each network, with the same weights at every call."""
    return {name: dict(make().state_dict()) for name, make in NETWORKS.items()}


def change(weights: Weights, key: str, kind: str, chance: random.Random) -> None:
    """Remove, rename or replace an entry of a state dict."""
    value = weights.pop(key)
    if kind == "rename":
        others = [f"x.{key}", f"{key}.x", "1", key.replace("0", "x"), key.replace("1", "99"), key.upper()]
        weights[chance.choice(others)] = value
    elif kind != "remove":
        sides = list(value.shape) or [1]
        sides[chance.randrange(len(sides))] = HUGE
        weights[key] = {
            "scalar": lambda: torch.tensor(1.0),
            "empty": lambda: torch.zeros([0] * max(value.dim(), 1)),
            "wide": lambda: torch.zeros([side + 1 for side in value.shape] or [3]),
            "flat": lambda: value.flatten(),
            "long": value.long,
            "nan": lambda: torch.full_like(value, math.nan) if value.is_floating_point() else value,
            "bool": value.bool,
            "complex": value.cfloat,
            "sparse": value.to_sparse,
            "expanded": lambda: torch.zeros([1] * len(sides)).expand(sides),
        }[kind]()


def changed(chance: random.Random, kinds: tuple[str, ...] = CHANGES[:8]) -> Weights:
    """Weights of a network with a few entries removed, renamed, reshaped or of another type."""
    weights = dict(sound()[chance.choice(("dehazeformer", "restormer", "swinir"))])
    for _ in range(chance.randint(1, 3)):
        if weights:
            change(weights, chance.choice(sorted(weights)), chance.choice(kinds), chance)
    return weights


def exporting(checkpoint: str | Path, statuses: tuple[int, ...]) -> Step:
    return Step(["export", "--checkpoint", checkpoint, "--output", "out.pth"], statuses)


def exported_is(given: Weights, original: Weights) -> Callable[[Path, Ended], str | None]:
    """A check that what was exported is what the file holds, and of the network's buffers what belongs there."""

    def check(folder: Path, ended: Ended) -> str | None:
        path = folder / "out.pth"
        if ended.status != 0:
            return "weights were written all the same" if path.exists() else None
        written = torch.load(path, weights_only=True)["state_dict"]
        for key, value in written.items():
            # Tables of indices and masks follow from the architecture.
            derived = key.rpartition(".")[2] in ("relative_position_index", "attn_mask", "relative_positions")
            sources = [each[key].to(value.dtype) for each in (given, original) if key in each]
            if not sources:
                return f"{key} was made up"
            right = [torch.equal(source, value) for source in sources]
            if not (any(right) if derived else right[0]):
                return f"{key} is not what the checkpoint holds"
        missing = [key for key in original if key not in written]
        return f"{missing[0]} is missing" if missing else None

    return check


def save(content: Mapping[str, Any], path: Path, chance: random.Random) -> None:
    """Save as one of the formats that torch has written."""
    torch.save(content, path, _use_new_zipfile_serialization=chance.random() < 0.8)


def contained(weights: Weights, chance: random.Random) -> dict[str, Any]:
    """Put weights where upstream's trainers put them, beside what else they save."""
    prefix = chance.choice(WRAPPERS)
    prefixed = {f"{prefix}{key}": value for key, value in weights.items()}
    container = chance.choice((None, "params", "params_ema", "state_dict"))
    if container is None:
        return prefixed
    beside = chance.choice(({}, {"epoch": 3, "optimizer": {"state": {}, "lr": 0.1}}, {"note": "x" * 100}))
    return {container: prefixed, **beside}


def _whole(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    name = chance.choice(sorted(NETWORKS))
    weights = sound()[name]
    dtype = chance.choice((torch.float32, torch.float32, torch.float16, torch.bfloat16, torch.float64))
    given = {key: value.to(dtype) if value.is_floating_point() else value for key, value in weights.items()}
    suffix = chance.choice((".pth", ".pt", ".ckpt", ".safetensors"))
    path = folder / f"net{suffix}"
    if suffix == ".safetensors":
        safetensors.torch.save_file({key: value.contiguous().clone() for key, value in given.items()}, path)
    else:
        save(contained(given, chance), path, chance)
    return Attack(
        f"whole {name}{suffix} {dtype}", [exporting(path.name, DONE)], ("out.pth",), check=exported_is(given, weights)
    )


def _changed(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    name = chance.choice(sorted(NETWORKS))
    given, changes = dict(sound()[name]), []
    for _ in range(chance.randint(1, 3)):
        key, kind = chance.choice(sorted(given)), chance.choice(CHANGES)
        change(given, key, kind, chance)
        changes.append(f"{key}: {kind}")
    save({"params": given}, folder / "net.pth", chance)
    return Attack(
        f"{name} with {', '.join(changes)}",
        [exporting("net.pth", EITHER)],
        ("out.pth",),
        check=exported_is(given, sound()[name]),
    )


def _flooded(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    """Weights beside entries of blocks that are not there, many of them sharing one memory."""
    name = chance.choice(("restormer", "swinir", "dehazeformer"))
    block = {
        "restormer": "encoder_level1.{}.x",
        "swinir": "layers.0.residual_group.blocks.{}.x",
        "dehazeformer": "layer1.blocks.{}.x",
    }[name]
    count, filler = chance.choice((3, 300, 20_000)), torch.zeros(chance.choice((1, 2**16)))
    given = sound()[name] | {block.format(index): filler for index in range(count)}
    torch.save({"params": given}, folder / "net.pth")
    return Attack(
        f"{name} with {count} entries more", [exporting("net.pth", REFUSED)], check=exported_is(given, sound()[name])
    )


def _cut_or_damaged(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    """An archive that is cut short or whose bytes are changed: what its checksums cover is refused."""
    name = chance.choice(("restormer", "swinir"))
    path = folder / chance.choice(("net.pth", "net.ckpt"))
    torch.save({"params": sound()[name]}, path)
    content = path.read_bytes()
    if chance.random() < 0.4:
        what, content = "cut", content[: chance.randrange(len(content))]
    elif chance.random() < 0.5:
        what, content = "damaged", damaged(content, chance)
    else:
        place, length = chance.randrange(len(content)), chance.choice((1, 8, 64))
        what, content = "overwritten", content[:place] + chance.randbytes(length) + content[place + length :]
    path.write_bytes(content)
    return Attack(
        f"{what} {name}", [exporting(path.name, EITHER)], ("out.pth",), check=exported_is(sound()[name], sound()[name])
    )


def _hostile(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    kind = chance.choice(PICKLES)
    name = chance.choice(("net.pth", "net.ckpt", "net.safetensors", "net"))
    write_hostile(folder / name, folder / "executed", kind)
    verbs = (
        exporting(name, REFUSED),
        Step(["restore", shared.folder / "pairs/val/input", "--pretrained", name, "--output", "out"], REFUSED),
        Step(["analyze", "spectrum", shared.folder / "pairs/val/input", "--pretrained", name], REFUSED),
        Step(["analyze", "warmstart", "--modules", name], REFUSED),
        Step(["bench", "attention", "--queries", name], REFUSED),
        Step(["fit", "--config", shared.recipe, "--model.pretrained", name, "--model.net", "null"], REFUSED),
        Step(
            ["validate", "--config", shared.recipe, "--ckpt_path", name, "--trainer.logger.save_dir", "logs"], REFUSED
        ),
    )
    return Attack(f"{kind} in {name} that would execute", [chance.choices(verbs, (4, 2, 1, 1, 1, 1, 1))[0]])


def _no_checkpoint(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    name = f"net{chance.choice(('.pth', '.ckpt', '.safetensors', ''))}"
    addresses = (
        "http://localhost:9/net.pth",
        "https://example.invalid/net.pth",
        "s3://a/b.ckpt",
        "file:///etc/hostname",
        "hf://a/b",
        "memory://x",
        "simplecache::http://localhost:9/n.pth",
    )
    kind = chance.randrange(4)
    if kind == 0:
        name = chance.choice(addresses)
    elif kind == 1:
        (folder / name).mkdir()
    else:
        content = chance.choice(
            (*NO_CHECKPOINTS, chance.randbytes(chance.randrange(500)), pickle.dumps([1, 2]), pickle.dumps(3))
        )
        (folder / name).write_bytes(content)
    return Attack(f"{name} that is none", [exporting(name, REFUSED)])


def _bomb(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    """Containers or archives that stand for more than the file holds."""
    kind = chance.choice(("shared lists", "recursive", "deep", "compressed", "long names"))
    content: dict[str, Any] = {"params": sound()["restormer"]}
    if kind == "shared lists":
        value: Any = ["x"]
        for _ in range(chance.randint(25, 60)):
            value = [value] * chance.randint(2, 4)
        content["note"] = value
    elif kind == "recursive":
        content["note"] = [content]
    elif kind == "deep":
        value = []
        for _ in range(chance.randint(100, 250)):
            value = chance.choice(([value], {"a": value}, (value,)))
        content["note"] = value
    elif kind == "long names":
        content["params"] = {f"{key}{'.0' * 10_000}": value for key, value in content["params"].items()}
    torch.save(content, folder / "net.pth")
    if kind == "compressed":
        torch.save({"params": {"a": torch.zeros(chance.choice((10**6, 10**7)))}}, folder / "plain.pth")
        with zipfile.ZipFile(folder / "plain.pth") as archive, zipfile.ZipFile(folder / "net.pth", "w") as packed:
            for part in archive.infolist():
                packed.writestr(part.filename, archive.read(part), zipfile.ZIP_DEFLATED)
        (folder / "plain.pth").unlink()
    return Attack(f"a bomb of {kind}", [exporting("net.pth", REFUSED)])


def _safetensors(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    """A safetensors file whose header lies."""
    name = chance.choice(("restormer", "swinir"))
    weights = {key: value.contiguous().clone() for key, value in sound()[name].items()}
    data = safetensors.torch.save(weights)
    length = struct.unpack("<Q", data[:8])[0]
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    key = chance.choice([each for each in header if each != "__metadata__"])
    lie = chance.choice(("offsets", "overlap", "shape", "dtype", "length", "body", "json", "key twice", "metadata"))
    if lie == "offsets":
        header[key]["data_offsets"] = [0, chance.choice((-1, 2**63, len(body) + 8))]
    elif lie == "overlap":
        header[key]["data_offsets"] = [offset + 4 for offset in header[key]["data_offsets"]]
    elif lie == "shape":
        header[key]["shape"] = chance.choice(([2**40], [-1], [2**32, 2**32], "x", [1.5]))
    elif lie == "dtype":
        header[key]["dtype"] = chance.choice(("F65", "BOOL", 3, None))
    elif lie == "metadata":
        header["__metadata__"] = chance.choice(([], {"a": 1}, "x"))
    text = json.dumps(header)
    if lie == "key twice":
        text = text[:-1] + f", {json.dumps(key)}: {json.dumps(header[key] | {'dtype': 'F16'})}}}"
    raw = text.encode()
    if lie == "json":
        raw = raw[: chance.randrange(len(raw))]
    if lie == "body":
        body = body[: chance.randrange(len(body))]
    said = chance.choice((2**63, 2**40, len(raw) + len(body) + 1, 0)) if lie == "length" else len(raw)
    (folder / "net.safetensors").write_bytes(struct.pack("<Q", said) + raw + body)
    return Attack(f"safetensors of {name} with a lie: {lie}, {key}", [exporting("net.safetensors", REFUSED)])


def _recorded(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    record = chance.choice(RECORDS)
    torch.save({"params": sound()["swinir"], "attention": record}, folder / "net.pth")
    return Attack(f"a record {record!r}", [exporting("net.pth", REFUSED)])


MAKERS = (
    (5, _whole),
    (8, _changed),
    (1, _flooded),
    (5, _cut_or_damaged),
    (4, _hostile),
    (3, _no_checkpoint),
    (2, _bomb),
    (4, _safetensors),
    (2, _recorded),
)


def make(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    """Write a checkpoint and let a verb read it."""
    return one_of(chance, MAKERS, folder, shared)
