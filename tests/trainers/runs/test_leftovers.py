"""What killed runs left half-written is removed by the next run of their folder."""

import os
import subprocess
import sys
from types import SimpleNamespace

from lightning.pytorch.loggers import TensorBoardLogger

from datamodules.files.atomic import atomic_file, remove_abandoned
from trainers.runs.record import RunRecord


def test_a_new_run_clears_what_earlier_ones_left_before_their_first_record_and_checkpoint(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for folder in (tmp_path / "run/version_0", tmp_path / "run/version_1/checkpoints"):
        with atomic_file(folder / "last.ckpt"):
            (mine,) = folder.glob(".*.tmp")
        for process in (os.getpid(), ended.pid):
            mine.with_name(mine.name.replace(f"-{os.getpid()}.", f"-{process}.")).touch()
    # Another process's first look at the folders.
    remove_abandoned.cache_clear()
    logger = TensorBoardLogger(tmp_path, name="run")
    trainer = SimpleNamespace(ckpt_path=None, is_global_zero=True, logger=logger, default_root_dir=tmp_path)
    RunRecord().on_train_start(trainer, None)
    assert [path.name for path in tmp_path.rglob("*.tmp")] == [mine.name] * 2
