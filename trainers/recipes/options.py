"""The options of a run: the words of those that are of no class, and the verbs that each option acts on."""

MAX_BATCH_PER_DEVICE = (
    "samples that one device holds at once; data.batch_size counts the samples of a step, and a larger step is "
    "accumulated from several batches; null: no limit"
)
EMA_DECAY = (
    "decay of the exponential moving average of the weights, such as 0.999; the average is validated and kept; "
    "null: no average"
)
CKPT_PATH = {
    "fit": (
        "checkpoint of a run to resume: a file; last, the newest that this recipe's runs left; or auto, the same, but "
        "a fresh start where there is none. To start from weights alone: --model.pretrained"
    ),
    **dict.fromkeys(
        ("validate", "test", "predict"),
        "checkpoint of a run to evaluate: a file; last, the newest that this recipe's runs left; or best, the one with "
        "the best validation score. For released weights: --model.pretrained",
    ),
}

_TRAINING = ("fit",)
_VALIDATION = ("fit", "validate")
_EVALUATION = ("validate", "test", "predict")


def _of(owner: str, names: str, verbs: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    return {f"{owner}.{name}": verbs for name in names.split()}


ACTING = {
    "max_batch_per_device": _TRAINING,
    "ema_decay": _TRAINING,
    "best_checkpoint": _TRAINING,
    "last_checkpoint": _TRAINING,
    "run": _TRAINING,
    "watch": _VALIDATION,
    **_of("trainer", "max_epochs min_epochs max_steps min_steps max_time limit_train_batches", _TRAINING),
    **_of("trainer", "val_check_interval check_val_every_n_epoch num_sanity_val_steps log_every_n_steps", _TRAINING),
    **_of("trainer", "accumulate_grad_batches gradient_clip_val gradient_clip_algorithm", _TRAINING),
    **_of("trainer", "detect_anomaly sync_batchnorm reload_dataloaders_every_n_epochs", _TRAINING),
    **_of("trainer", "enable_checkpointing enable_model_summary barebones", _TRAINING),
    **_of("trainer", "limit_val_batches overfit_batches", _VALIDATION),
    "trainer.limit_test_batches": ("test",),
    "trainer.limit_predict_batches": ("predict",),
    # Lightning's store of models: checkpoints are files of this machine.
    "trainer.model_registry": (),
    # What is restored is saved image by image, and nothing would take it.
    "return_predictions": (),
    **_of("model", "optimizer scheduler mixup checkpoint_activations compile_backend", _TRAINING),
    **_of("model", "pretrained_parts learning_rates held_steps", _TRAINING),
    **_of("model", "ground_truth teacher_image teacher_attention stochastic", _TRAINING),
    "model.logged_images": _VALIDATION,
    "model.self_ensemble": _EVALUATION,
    "model.save_tests": ("test",),
    **_of("data", "patch_size batch_size num_frames reverse stages augment epoch_length repeat train_sets", _TRAINING),
}
"""Verbs that an option acts on, where it does not act on all. A recipe, such as a run's `config.yaml`, holds it for
every verb; a command line must not."""
