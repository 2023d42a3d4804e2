"""The options of a run that are neither the trainer's nor of one class: their words, for parser and help."""

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
