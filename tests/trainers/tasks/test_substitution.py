"""Fine-tuning after a substitution: what trains, against what, what is saved, and what loads it."""

import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch.testing import assert_close

import nystra
from glmha.shared.checkpoint_files import CheckpointError, read
from nystra.sites import attention_record
from tests.trainers.small_networks import batch, dehazeformer, last, objective, restormer, rvrt, swinir
from trainers import RestorationTask, SubstitutionTask
from trainers.checkpoints import BestCheckpoint
from trainers.networks import load_network
from trainers.tuning.distillation import attentions


def test_every_verb_works_from_a_checkpoint(lowrank, tuning, released, pairs, tmp_path, capsys):
    assert lowrank("fit", "--config", tuning) == 0
    checkpoint = last(tmp_path / "logs")
    content = read(checkpoint)
    # Plain weights of the original architecture, trained, and the record beside them; no teacher.
    weights = {key.removeprefix("net."): value for key, value in content["state_dict"].items()}
    assert weights.keys() == swinir().state_dict().keys()
    swinir().load_state_dict(weights, strict=True)
    assert any((weights[key] != value).any() for key, value in swinir().state_dict().items())
    assert content[attention_record.KEY]["window_size"] == 8
    kernels = content[attention_record.KEY]["kernels"]
    assert len(kernels) == 2
    for kernel in kernels.values():
        assert kernel == {"class": "LandmarkPooling", "landmarks": 4, "cells": 16, "near": "own"}
    for verb in ("validate", "test", "predict"):
        assert lowrank(verb, "--config", tuning, "--ckpt_path", checkpoint) == 0
    photo = next((pairs / "test" / "input").glob("*.png"))
    assert lowrank("restore", photo, "--pretrained", checkpoint, "--output", tmp_path / "restored") == 0
    exported = tmp_path / "weights.pth"
    assert lowrank("export", "--checkpoint", checkpoint, "--output", exported) == 0
    assert read(exported).keys() == {"state_dict", attention_record.KEY, "card"}
    swinir().load_state_dict(read(exported)["state_dict"], strict=True)
    options = ["--kernels", "[nystra.Softmax]", "--memory", "false", "--repeats", 1, "--output", tmp_path / "compare"]
    data = [f"--data.test_{kind}={pairs / 'test' / kind}" for kind in ("input", "target")]
    capsys.readouterr()
    assert lowrank("compare", "--pretrained", exported, "--data", "PairedFolderDataModule", *data, *options) == 0
    # What was fine-tuned attends by its own kernel, and exactly when it is told to.
    image = batch()["input"]
    with torch.no_grad():
        tuned = load_network(checkpoint)
        assert_close(RestorationTask(pretrained=exported).net.eval()(image), tuned(image))
        exact = load_network(checkpoint)
        nystra.substitute(exact, nystra.Softmax())
        assert (exact(image) - tuned(image)).abs().max() > 1e-7


def test_the_teacher_is_the_released_network_and_no_part_of_the_student(released):
    task = SubstitutionTask(released, nystra.Nystrom(4, 4), window_size=8)
    assert not task.teacher.training
    assert task.net.training
    assert attention_record.record(task.teacher) == {}
    assert not any(parameter.requires_grad for parameter in task.teacher.parameters())
    inside = {id(parameter) for parameter in task.parameters()}
    assert not inside & {id(parameter) for parameter in task.teacher.parameters()}
    assert task.state_dict().keys() == {f"net.{key}" for key in swinir().state_dict()}
    before = copy.deepcopy(task.teacher.state_dict())
    objective(task).backward()
    assert all(parameter.grad is None for parameter in task.teacher.parameters())
    for key, value in task.teacher.state_dict().items():
        assert_close(value, before[key], rtol=0, atol=0)


@pytest.mark.parametrize("make", [swinir, dehazeformer])
def test_an_unchanged_student_has_nothing_to_learn_of_its_teacher(make, tmp_path):
    torch.save(make().state_dict(), tmp_path / "net.pth")
    weights = {"ground_truth": 0.0, "teacher_image": 1.0, "teacher_attention": 1.0}
    same = SubstitutionTask(tmp_path / "net.pth", **weights)
    assert objective(same, batch(64)).item() < 1e-6
    # Windows of another size: maps are compared, not windows; every site is.
    other = SubstitutionTask(tmp_path / "net.pth", nystra.LandmarkPooling(4, 4), window_size=16, **weights)
    with torch.no_grad():
        for parameter in [*other.net.parameters(), *other.teacher.parameters()]:
            parameter.mul_(3)
    loss = objective(other, batch(64))
    assert 0 < other.logged["train/teacher_attention"] < 10
    loss.backward()
    assert len(attentions(other.net)) == len(nystra.find_sites(other.net))


def test_a_network_of_clips_learns_of_its_teacher_too(tmp_path):
    torch.save(rvrt().state_dict(), tmp_path / "net.pth")
    task = SubstitutionTask(tmp_path / "net.pth", nystra.LandmarkPooling(4, 4), window_size=8, teacher_attention=1.0)
    clips = torch.rand(2, 1, 2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    loss = objective(task, {"input": clips[0], "target": clips[1], "name": ["clip"]})
    assert task.logged["train/teacher_attention"] > 0
    loss.backward()
    assert len(attentions(task.net)) == len(nystra.find_sites(task.net)) == 6


def test_weights_weigh_the_losses(released):
    def of(**weights):
        return objective(SubstitutionTask(released, nystra.Nystrom(4, 4), **weights)).item()

    none = {"ground_truth": 0.0, "teacher_image": 0.0, "teacher_attention": 0.0}
    parts = {name: of(**none | {name: 1.0}) for name in none}
    assert all(part > 0 for part in parts.values())
    together = of(ground_truth=2.0, teacher_image=3.0, teacher_attention=4.0)
    expected = 2 * parts["ground_truth"] + 3 * parts["teacher_image"] + 4 * parts["teacher_attention"]
    assert together == pytest.approx(expected, rel=1e-5)


def test_dropout_and_stochastic_depth_act_if_wanted_only(released):
    def rates(**options):
        net = SubstitutionTask(released, **options).net
        return {module.drop_path for module in net.modules() if hasattr(module, "drop_path")}

    assert rates() == {0.0}
    assert max(rates(stochastic=True)) > 0


def annealed(tuning: Path, folder: str) -> list:
    kernel = "{class_path: nystra.Nystrom, init_args: {landmarks: M, key_landmarks: M}}"
    schedule = f"{{1: {kernel.replace('M', '4')}, 3: {kernel.replace('M', '1')}}}"
    options = ["--model.kernel_schedule", schedule, "--trainer.logger.init_args.name", folder]
    return ["fit", "--config", tuning, *options, "--best_checkpoint.save_top_k", 0]


def test_kernels_of_a_schedule_follow_their_steps_not_their_order(released):
    sites = list(nystra.find_sites(swinir()))
    schedule = {4: {sites[0]: nystra.Nystrom(4, 4)}, 2: {sites[1]: nystra.Performer(8)}}
    task = SubstitutionTask(released, window_size=8, kernel_schedule=schedule)
    assert [set(record.get("kernels", {})) for record in task.attention_records()] == [set(), {sites[1]}, set(sites)]


def test_other_tasks_do_not_run_the_weights_with_another_attention(lowrank, tuning, recipe, released, tmp_path, capsys):
    task = SubstitutionTask(released, nystra.Nystrom(4, 4), window_size=8)
    checkpoint = {"state_dict": task.state_dict(), attention_record.KEY: attention_record.record(task.net)}
    with pytest.raises(ValueError, match=r"exact attention in trained windows where it records window 8 .*Nystrom"):
        RestorationTask(net=swinir()).on_load_checkpoint(checkpoint)
    weights = {"state_dict": task.net.state_dict(), attention_record.KEY: attention_record.record(task.net)}
    torch.save(weights, tmp_path / "tuned.pth")
    with pytest.raises(ValueError, match=r"net \(SwinIR\) must attend as pretrained .*Nystrom.*: leave net out"):
        RestorationTask(net=swinir(), pretrained=tmp_path / "tuned.pth")
    assert attention_record.record(RestorationTask(pretrained=tmp_path / "tuned.pth").net) == attention_record.record(
        task.net
    )


def test_tuned_weights_are_no_teacher(released, tmp_path):
    tuned = SubstitutionTask(released, nystra.Nystrom(4, 4), window_size=8).net
    torch.save(
        {"state_dict": tuned.state_dict(), attention_record.KEY: attention_record.record(tuned)}, tmp_path / "tuned.pth"
    )
    with pytest.raises(ValueError, match=r"teacher \(null\) must be the released checkpoint"):
        SubstitutionTask(tmp_path / "tuned.pth")
    SubstitutionTask(tmp_path / "tuned.pth", teacher=released)
    SubstitutionTask(tmp_path / "tuned.pth", teacher_attention=0.0)


def test_gradients_reach_all_parameters_where_processes_wait_for_them(released):
    task = SubstitutionTask(released, nystra.PublishedNystrom(4), window_size=8, ground_truth=0.0)
    task._trainer = SimpleNamespace(strategy=DDPStrategy())
    objective(task).backward()
    assert all(parameter.grad is not None for parameter in task.net.parameters())


@pytest.mark.slow
def test_landmarks_are_annealed_also_by_a_run_that_is_resumed(lowrank, tuning, tmp_path):
    assert lowrank(*annealed(tuning, "whole")) == 0
    whole = read(last(tmp_path / "logs" / "whole"))
    assert {kernel["landmarks"] for kernel in whole[attention_record.KEY]["kernels"].values()} == {1}
    assert lowrank(*annealed(tuning, "parts"), "--trainer.max_steps", 3) == 0
    part = last(tmp_path / "logs" / "parts")
    assert {kernel["landmarks"] for kernel in read(part)[attention_record.KEY]["kernels"].values()} == {4}
    assert lowrank(*annealed(tuning, "parts"), "--ckpt_path", part) == 0
    resumed = read(last(tmp_path / "logs" / "parts"))
    assert resumed[attention_record.KEY] == whole[attention_record.KEY]
    for key, value in whole["state_dict"].items():
        assert_close(resumed["state_dict"][key], value, rtol=0, atol=0)


def test_fine_tuning_goes_on_from_a_fine_tuned_checkpoint(released, tmp_path):
    first = SubstitutionTask(released, {"*.0.attn": nystra.Nystrom(4, 4)}, window_size=8)
    assert len(attention_record.record(first.net)["kernels"]) == 1
    content = {"state_dict": first.state_dict(), attention_record.KEY: attention_record.record(first.net)}
    torch.save(content, tmp_path / "first.pth")
    second = SubstitutionTask(tmp_path / "first.pth", teacher=released)
    assert attention_record.record(second.net) == content[attention_record.KEY]
    assert attention_record.record(second.teacher) == {}


def not_a_window_network(tmp_path: Path) -> Path:
    torch.save(restormer().state_dict(), tmp_path / "restormer.pth")
    return tmp_path / "restormer.pth"


def another_network(tmp_path: Path) -> Path:
    torch.save(dehazeformer().state_dict(), tmp_path / "dehazeformer.pth")
    return tmp_path / "dehazeformer.pth"


class Foreign(nystra.Softmax):
    """A kernel of someone else's."""


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"kernel": {"nowhere": nystra.Nystrom(4, 4)}}, ValueError, r"sites \(nowhere\) must match"),
        ({"kernel": Foreign()}, ValueError, r"kernel \(Foreign\) must be one of"),
        ({"kernel_schedule": {0: nystra.Nystrom(4, 4)}}, ValueError, r"kernel_schedule \(0\) must begin at step 1"),
        ({"window_size": 0}, ValueError, r"window_size \(0\) must be at least 1"),
        ({"ground_truth": -1.0}, ValueError, r"ground_truth \(-1.0\) must be at least 0"),
        ({"ground_truth": 0.0, "teacher_attention": 0.0}, ValueError, "must not all be 0"),
        ({"trainable": "some"}, ValueError, r"trainable \(some\) must be one of all, attention, bias, adapters"),
        ({"trainable": "adapters", "adapter_rank": 0}, ValueError, r"adapter_rank \(0\) must be at least 1"),
        (
            {"learning_rates": {"nothing": 1.0}},
            ValueError,
            r"learning_rates \(nothing\) must match a trained parameter",
        ),
        ({"learning_rates": {"*": -1.0}}, ValueError, r"learning_rates \(\*: -1.0\) must be at least 0"),
        ({"trainable": "bias", "kernel": nystra.PublishedNystrom(4)}, ValueError, "must leave something to train"),
        ({"trainable": "bias", "position_bias": "drop"}, ValueError, "must leave something to train"),
        ({"pretrained": not_a_window_network}, CheckpointError, "must be a SwinIR, Uformer, DehazeFormer or RVRT"),
        ({"teacher": another_network}, ValueError, "must be of the size of pretrained"),
    ],
)
def test_what_cannot_be_is_refused(released, tmp_path, options, error, message):
    made = {
        key: value(tmp_path) if callable(value) and key in ("pretrained", "teacher") else value
        for key, value in options.items()
    }
    with pytest.raises(error, match=message):
        SubstitutionTask(**{"pretrained": released, **made})


def test_a_checkpoint_of_another_kernel_is_refused(released):
    first, second = (SubstitutionTask(released, nystra.Nystrom(m, m)) for m in (4, 1))
    content = {"state_dict": first.state_dict(), attention_record.KEY: attention_record.record(first.net)}
    with pytest.raises(ValueError, match=r"must be those that ckpt_path was trained with, got Nystrom\(landmarks=1"):
        second.on_load_checkpoint(content)


def test_the_best_checkpoint_is_of_the_present_kernel(released):
    task = SubstitutionTask(released, nystra.Nystrom(4, 4), kernel_schedule={3: nystra.LandmarkPooling(4, 16, "own")})
    best = BestCheckpoint()
    best.best_k_models, best.best_model_path = {"best-step=2.ckpt": torch.tensor(40.0)}, "best-step=2.ckpt"
    best.best_model_score = best.kth_value = torch.tensor(40.0)
    kept = []
    for step in range(5):
        task._trainer = SimpleNamespace(global_step=step, global_rank=0, callbacks=[best])
        task.on_train_batch_start(None, 0)
        kept.append(best.best_model_path)
    assert kept == ["best-step=2.ckpt"] * 3 + [""] * 2
    # Whatever the first score with the new kernel is, it is the best.
    assert best.check_monitor_top_k(SimpleNamespace(strategy=None), torch.tensor(3.0))
    assert best.best_model_score is None
    assert best.kth_value == -torch.inf
