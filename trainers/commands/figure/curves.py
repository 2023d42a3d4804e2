"""`lowrank figure curves`: training curves of several runs, with a band over seeds."""

from pathlib import Path

from trainers.commands.figure.output import tell
from trainers.figures.curves import Curve, draw_curves
from trainers.figures.style import Drawing
from trainers.monitoring.logged import read_logged
from trainers.runs.listing import find_runs


def figure_curves(
    folders: list[Path], *, tag: str = "val/psnr", title: str = "", output: Path = Path("logs/figures/curves")
) -> Drawing:
    """Draw training curves of runs; those below one named folder are drawn as their mean with a band.

    Args:
        folders: each a run's log folder, or a folder with runs that belong together, such as seeds.
        tag: what was logged, such as val/psnr or train/loss.
        title: of the figure.
        output: name of the files: PDF, PNG and CSV; their folder is made if it is missing.

    Returns:
        The figure and every value.

    Raises:
        FileNotFoundError: if there is no such folder or no run in it.
        ValueError: if no run in it has such values.
    """
    groups: dict[str, dict[str, Curve]] = {}
    for folder in folders:
        runs = [listed.folder for listed in find_runs([folder])]
        name = "/".join(folder.parts[-2:])
        logged = {str(run): read_logged(run).scalars for run in runs}
        groups[name] = {run: scalars[tag] for run, scalars in logged.items() if tag in scalars}
        if not groups[name]:
            known = sorted({each for scalars in logged.values() for each in scalars if not each.startswith("watch/")})
            raise ValueError(
                f"tag ({tag}) must be logged by a run in {folder}, which have {', '.join(known) or 'nothing'}"
            )
    drawing = draw_curves(groups, tag=tag, title=title)
    tell(drawing, output)
    return drawing
