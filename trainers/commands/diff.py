"""The verb `diff`: two evaluations of the same images, image by image."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from trainers.errors import printable
from trainers.evaluation.differences import Differences
from trainers.figures.differences import draw_differences


def diff_results(
    results: list[Path],
    *,
    metric: str | None = None,
    common: bool = False,
    rows: int | None = 10,
    output: Path = Path("logs/diff.png"),
) -> Differences:
    """Compare two evaluations image by image: on which images the second one is better or worse, and by how much.

    Args:
        results: two files `metrics.json`, or the folders that hold them, as `lowrank test`, `validate` and `score`
            write them.
        metric: name of the metric, such as psnr; null: the first one that both have.
        common: whether to compare what both have, where their metrics, data sets or images differ.
        rows: images in the table, of the largest losses and of the largest gains each; null: all images.
        output: name of the files of a figure, all differences as sorted bars: PDF, PNG and CSV.

    Returns:
        Every image's values, the largest loss first.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if there are not two results, they are of different metrics, data sets or images, or a number is
            out of range.
    """
    if len(results) != 2:
        raise ValueError(
            f"results ({', '.join(map(str, results))}) must be two, got {len(results)}; "
            "give the metrics.json of two evaluations"
        )
    if rows is not None and rows < 1:
        raise ValueError(f"rows ({rows}) must be at least 1, or null for all images")
    first, second = results
    differences = Differences.between(first, second, metric=metric, common=common)
    draw_differences(differences, first=str(first), second=str(second)).save(output)
    # Names may hold square brackets, which are no markup.
    console = Console(markup=False, highlight=False, emoji=False)
    console.print(_table(differences, rows))
    count = len(differences.images)
    equal = count - differences.better - differences.worse
    console.print(
        f"mean change {differences.mean:+.4g}; the second is better on {differences.better}, worse on "
        f"{differences.worse} and equal on {equal} of {count} images",
        soft_wrap=True,
    )
    console.print(printable(f"{differences.metric}: {differences.protocol}"), soft_wrap=True)
    for name, path in (("first", first), ("second", second), ("plot", output)):
        console.print(f"{name}: {printable(str(path))}", soft_wrap=True)
    return differences


def _table(differences: Differences, rows: int | None) -> Table:
    table = Table(title=f"{printable(differences.metric)}, the largest loss first")
    for column in ("data set", "image", "first", "second", "change"):
        table.add_column(column, justify="left" if column in ("data set", "image") else "right", overflow="fold")
    images = differences.images
    parts = [images] if rows is None or len(images) <= 2 * rows else [images[:rows], images[-rows:]]
    for index, part in enumerate(parts):
        if index:
            table.add_section()
        for image in part:
            values = (f"{image.first:.4f}", f"{image.second:.4f}", f"{image.change:+.4f}")
            table.add_row(printable(image.data_set), printable(image.image), *values)
    return table
