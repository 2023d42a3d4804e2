"""The verbs of `lowrank`: what each does, two examples of it, and the function that it calls."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Verb:
    """A verb that Lightning runs on the task and the data of a recipe.

    Attributes:
        description: one line for `lowrank --help`.
        examples: two commands for the verb's own help.
    """

    description: str
    examples: tuple[str, str]


@dataclass(frozen=True)
class FunctionVerb(Verb):
    """A verb that calls a plain function, which is imported when the verb is run.

    Attributes:
        module: the module that defines the function.
        function: the name of the function, whose arguments are the verb's options.
        positional: the argument that is given without a name, either one value or a list. A list may be left out if
            the function has a default for it. None if all arguments are given by name.
    """

    module: str
    function: str
    positional: str | None = None


TRAINER_VERBS = {
    "fit": Verb(
        "train a network as a recipe describes (--config), or resume (--ckpt_path FILE | last | auto)",
        (
            "lowrank fit --config train/pairs.yaml --data.root MY_PAIRS",
            "lowrank fit --config logs/my_run/version_0/config.yaml --ckpt_path auto",
        ),
    ),
    "validate": Verb(
        "score a checkpoint on the recipe's validation sets",
        (
            "lowrank validate --config logs/my_run/version_0/config.yaml --ckpt_path best",
            "lowrank validate --config demo/restormer_glmha.yaml --model.pretrained last.ckpt --model.tile 256",
        ),
    ),
    "test": Verb(
        "score a checkpoint on the recipe's test sets",
        (
            "lowrank test --config logs/my_run/version_0/config.yaml --ckpt_path best",
            "lowrank test --config eval/gopro.yaml --model.pretrained motion_deblurring.pth --data.root GoPro",
        ),
    ),
    "predict": Verb(
        "restore the recipe's test sets and save the images",
        (
            "lowrank predict --config logs/my_run/version_0/config.yaml --ckpt_path best",
            "lowrank predict --config eval/rain13k.yaml --model.pretrained deraining.pth --data.root Rain13K",
        ),
    ),
}

FUNCTION_VERBS = {
    "analyze complexity": FunctionVerb(
        "parameters and multiply-adds: the paper's tables beside the counts",
        ("lowrank analyze complexity", "lowrank analyze complexity 7 9 --output complexity.json"),
        "trainers.commands.analyze.complexity",
        "analyze_complexity",
        positional="tables",
    ),
    "analyze plan": FunctionVerb(
        "the fastest kernel for every attention within a loss of fidelity",
        (
            "lowrank analyze plan photos --pretrained dehazeformer-t.pth --window_size 16 --output plan.yaml",
            "lowrank analyze plan photos --pretrained my.pth --network my_networks:make_net --budget_db 50",
        ),
        "trainers.commands.analyze.plan",
        "analyze_plan",
        positional="images",
    ),
    "analyze spectrum": FunctionVerb(
        "the rank of a checkpoint's attention on images",
        (
            "lowrank analyze spectrum photo.png --pretrained deraining.pth",
            "lowrank analyze spectrum photos --pretrained dehazeformer-t.pth --window_size 16 --output logs/spectrum",
        ),
        "trainers.commands.analyze.spectrum",
        "analyze_spectrum",
        positional="images",
    ),
    "analyze warmstart": FunctionVerb(
        "the gain of a start from dense weights for GLMHA, on trained modules",
        (
            "lowrank analyze warmstart --modules modules.safetensors",
            "lowrank analyze warmstart --modules modules.safetensors --reductions '[0.5]' --steps 100 --blocks 4",
        ),
        "trainers.commands.analyze.warm_start",
        "analyze_warm_start",
    ),
    "bench": FunctionVerb(
        "time and memory of whole networks, side by side in one run",
        ("lowrank bench", "lowrank bench --size 128 --training false --output bench.json"),
        "trainers.commands.bench.networks",
        "run_bench",
    ),
    "bench attention": FunctionVerb(
        "time of window attention alone, kernel by kernel",
        ("lowrank bench attention", "lowrank bench attention --window 64 --windows 1 --memory --output attention.json"),
        "trainers.commands.bench.attention",
        "run_bench_attention",
    ),
    "bench gpu": FunctionVerb(
        "every table that is worth having on an accelerator, in minutes",
        ("lowrank bench gpu", "lowrank bench gpu --device cpu --quick true"),
        "trainers.commands.bench.gpu",
        "run_bench_gpu",
    ),
    "bench loop": FunctionVerb(
        "the cost of the training loop over the bare step",
        ("lowrank bench loop", "lowrank bench loop --recipe demo/restormer_glmha.yaml --batch_sizes '[4]'"),
        "trainers.commands.bench.loop",
        "run_bench_loop",
    ),
    "bench runtimes": FunctionVerb(
        "time of one network in PyTorch, ONNX Runtime and OpenVINO, dense and low-rank",
        ("lowrank bench runtimes", "lowrank bench runtimes --network dehazeformer-t --size 256 --output runtimes.json"),
        "trainers.commands.bench.runtimes",
        "run_bench_runtimes",
    ),
    "bench windows": FunctionVerb(
        "time of whole window-attention networks, kernel by kernel",
        ("lowrank bench windows", "lowrank bench windows --network uformer-b --window 16 --height 128 --width 128"),
        "trainers.commands.bench.windows",
        "run_bench_windows",
    ),
    "compare": FunctionVerb(
        "a released window-attention model under other kernels, side by side",
        (
            "lowrank compare --config nystra/dehazeformer_sots.yaml --pretrained dehazeformer-t.pth --data.root SOTS",
            "lowrank compare --config nystra/uformer_sidd.yaml --pretrained Uformer_B.pth --data.root SIDD --images 40",
        ),
        "trainers.commands.compare.command",
        "run_compare",
    ),
    "data": FunctionVerb(
        "list the published data sets: where they are, terms, layout, what a program can fetch",
        ("lowrank data", "lowrank data div2k --output downloads"),
        "trainers.commands.data_sets",
        "run_data",
        positional="names",
    ),
    "demo": FunctionVerb(
        "train small networks on bundled photographs and compare them",
        ("lowrank demo", "lowrank demo learned substitution --steps 100 --output logs/demo"),
        "trainers.commands.demo.command",
        "run_demo",
        positional="parts",
    ),
    "diff": FunctionVerb(
        "compare two evaluations (metrics.json) image by image",
        (
            "lowrank diff logs/exact/version_0 logs/landmarks/version_0",
            "lowrank diff first/metrics.json second/metrics.json --metric ssim --output ssim.png",
        ),
        "trainers.commands.diff",
        "diff_results",
        positional="results",
    ),
    "export": FunctionVerb(
        "write a checkpoint's weights and card, or its network for ONNX Runtime, OpenVINO or torch.export",
        (
            "lowrank export --checkpoint last.ckpt --output weights.pth",
            "lowrank export --checkpoint last.ckpt --output net.onnx --pad",
        ),
        "trainers.commands.export",
        "export_network",
    ),
    "figure attention": FunctionVerb(
        "where a query looks in its window: exact, every kernel, and the difference, over the picture",
        (
            "lowrank figure attention photo.png --pretrained dehazeformer-t.pth --window_size 16",
            "lowrank figure attention photo.png --pretrained dehazeformer-t.pth --site layer2.* --pixel '[90, 40]'",
        ),
        "trainers.commands.figure.attention",
        "figure_attention",
        positional="image",
    ),
    "figure calibration": FunctionVerb(
        "which image makes which channel louder: the calibration vectors of GLMHA",
        (
            "lowrank figure calibration photos --pretrained logs/my_run/version_0/checkpoints/last.ckpt",
            "lowrank figure calibration a.png b.png --pretrained last.ckpt --blocks 3 --size 128",
        ),
        "trainers.commands.figure.calibration",
        "figure_calibration",
        positional="images",
    ),
    "figure crops": FunctionVerb(
        "the same parts of images from several folders, with maps of their differences",
        (
            "lowrank figure crops input=rainy exact=restored_exact glmha=restored_glmha target=clean",
            "lowrank figure crops exact=a pooled=b target=clean --names '[photo]' --region '[100, 80, 96, 96]'",
        ),
        "trainers.commands.figure.crops",
        "figure_crops",
        positional="versions",
    ),
    "figure curves": FunctionVerb(
        "training curves of several runs, with a band over seeds",
        (
            "lowrank figure curves logs/exact logs/glmha",
            "lowrank figure curves logs/exact/version_0 logs/glmha/version_0 --tag train/loss --output loss",
        ),
        "trainers.commands.figure.curves",
        "figure_curves",
        positional="folders",
    ),
    "figure quality": FunctionVerb(
        "quality against cost of every kernel, from results of compare, bench and plan",
        (
            "lowrank figure quality logs/compare/metrics.json",
            "lowrank figure quality compare.json bench.json plan.yaml --cost macs --quality lost --output quality",
        ),
        "trainers.commands.figure.quality",
        "figure_quality",
        positional="results",
    ),
    "figure tokens": FunctionVerb(
        "time and memory of attention against tokens, with fitted slopes, from results of bench attention",
        (
            "lowrank figure tokens window16.json window32.json window64.json",
            "lowrank figure tokens window*.json --title 'one thread, AVX2' --output tokens",
        ),
        "trainers.commands.figure.tokens",
        "figure_tokens",
        positional="results",
    ),
    "info": FunctionVerb(
        "what this installation has (versions, devices, native programs), or what a checkpoint is",
        ("lowrank info", "lowrank info logs/my_run/version_0/checkpoints/last.ckpt --json"),
        "trainers.commands.info",
        "run_info",
        positional="files",
    ),
    "models": FunctionVerb(
        "list the released checkpoints that --pretrained takes by name: task, licence, size, where they are",
        ("lowrank models", "lowrank models --family Restormer --task deblurring --json"),
        "trainers.commands.models",
        "run_models",
        positional="names",
    ),
    "prepare": FunctionVerb(
        "check a downloaded data set, and cut the crops to train on",
        (
            "lowrank prepare rain13k --source downloads/Rain13K --verify",
            "lowrank prepare gopro --source downloads/GoPro --output data/GoPro",
        ),
        "trainers.commands.prepare",
        "run_prepare",
        positional="dataset",
    ),
    "push": FunctionVerb(
        "upload a checkpoint's weights and card to a model hub",
        (
            "lowrank push --checkpoint logs/my_run/version_0/checkpoints/last.ckpt --repository me/my-net",
            "lowrank push --checkpoint my_run.safetensors --repository me/my-net --private --licence mit",
        ),
        "trainers.commands.push",
        "push_model",
    ),
    "recipes": FunctionVerb(
        "list the recipes that --config can name, or print one",
        ("lowrank recipes", "lowrank recipes demo/restormer_glmha.yaml"),
        "trainers.commands.recipes",
        "run_recipes",
        positional="names",
    ),
    "report": FunctionVerb(
        "runs and results as one page to look at: curves, tables, pictures, options, commands",
        ("lowrank report logs/my_run --output my_run.html", "lowrank report --serve logs"),
        "trainers.commands.report.command",
        "run_report",
        positional="paths",
    ),
    "reproduce": FunctionVerb(
        "the tables and figures of both papers: published beside measured here, and what measures them",
        (
            "lowrank reproduce",
            "lowrank reproduce glmha-table7 --data.root Rain13K --plan",
        ),
        "trainers.commands.reproduce.command",
        "run_reproduce",
        positional="names",
    ),
    "restore": FunctionVerb(
        "restore images of any size with a checkpoint",
        (
            "lowrank restore photo.png --pretrained last.ckpt --output restored",
            "lowrank restore photos --pretrained deraining.pth --output restored --tile 256 --precision bf16",
        ),
        "trainers.commands.restore.command",
        "restore_images",
        positional="images",
    ),
    "runs": FunctionVerb(
        "list the runs below a folder: their options that differ, progress, scores, and how to go on",
        ("lowrank runs", "lowrank runs logs/my_run logs/other_run --json"),
        "trainers.commands.runs",
        "run_runs",
        positional="folders",
    ),
    "score": FunctionVerb(
        "score a folder of restored images against clean ones, in a benchmark's protocol",
        (
            "lowrank score restored GoPro/test/target --protocol gopro",
            "lowrank score restored Set5/HR --protocol super_resolution --scale 4 --output logs/set5",
        ),
        "trainers.commands.score",
        "score_folders",
        positional="folders",
    ),
}
