"""`python -m tests.attack.campaign`: the long campaign, or one of its inputs again."""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.attack.campaign.kinds import SHARES, preload, share_out
from tests.attack.campaign.pool import Failure, run_all
from tests.attack.campaign.shared import make_shared
from tests.attack.campaign.table import table

LONGEST_LIST = 50


def main() -> int:
    """Run the campaign and print its table; the exit status says whether all was right."""
    parser = argparse.ArgumentParser(prog="python -m tests.attack.campaign", description=__doc__)
    parser.add_argument("--seed", type=int, help="of an earlier campaign, to repeat it; default: a random one")
    parser.add_argument("--inputs", type=int, default=2000, help="number of inputs (default: 2000)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="at once (default: the processors)")
    parser.add_argument("--only", default="", help="a kind, or one input of it: images, images/17")
    parser.add_argument("--failures", type=Path, default=Path("attack-failures"), help="folder for inputs that failed")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    print(f"seed {seed}: make attack SEED={seed} repeats this campaign", flush=True)
    kind, _, number = options.only.partition("/")
    if kind and kind not in SHARES:
        parser.error(f"--only ({options.only}) must begin with one of {', '.join(SHARES)}")
    work = [
        (each, index)
        for each, count in share_out(options.inputs).items()
        for index in range(count)
        if kind in ("", each) and number in ("", str(index))
    ]
    # Kinds take turns, so that long ones do not stand at the end.
    random.Random(seed).shuffle(work)
    began = time.monotonic()
    preload()
    folder = Path(tempfile.mkdtemp(prefix="attack-"))
    try:
        shared = make_shared(folder / "shared")
        prepared = time.monotonic()
        results = run_all(work, seed, folder, shared, options.processes)
        failures = [result for result in results if result.verdict.column != "right"]
        keep(failures, folder, options.failures, seed)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(table(results))
    minutes = (time.monotonic() - began) / 60
    print(
        f"seed {seed}, {len(results)} inputs, {minutes:.1f} minutes, {(prepared - began) / 60:.1f} of them to prepare"
    )
    for failure in failures[:LONGEST_LIST]:
        print(
            f"\n{failure.kind}/{failure.number}: {failure.verdict.column}: {failure.verdict.reason}\n  {failure.what}"
        )
    if failures:
        print(f"\ninputs and output: {options.failures}; to try one again: make attack SEED={seed} ONLY=KIND/NUMBER")
    return int(bool(failures))


def keep(failures: list[Failure], folder: Path, kept: Path, seed: int) -> None:
    """Copy the inputs that failed, with what was printed and the verdict."""
    for failure in failures:
        name = f"{failure.kind}-{failure.number}"
        target = kept / f"{seed}-{name}"
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for path in folder.glob(f"{name}.*"):
            shutil.copy(path, target)
        # Neither pipes nor devices can be copied, nor links to them be followed.
        shutil.copytree(folder / name, target / "input", symlinks=True, ignore=special_files, dirs_exist_ok=True)


def special_files(folder: str, names: list[str]) -> list[str]:
    """Names in a folder that are neither files, folders nor links."""
    paths = [Path(folder, name) for name in names]
    return [path.name for path in paths if not (path.is_symlink() or path.is_file() or path.is_dir())]


if __name__ == "__main__":
    sys.exit(main())
