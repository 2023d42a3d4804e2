"""The verb `report`: runs and results as one page."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from datamodules.files.atomic import atomic_file
from trainers.commands.report.overview import sections_of_all, title_of
from trainers.commands.report.results import Result, read_result
from trainers.commands.report.run import sections_of_run
from trainers.commands.report.server import ReportServer
from trainers.commands.report.sources import Sources, find_sources
from trainers.errors import printable
from trainers.evaluation.provenance import versions
from trainers.reports.page.content import Page
from trainers.reports.page.render import render
from trainers.runs.run import utc_now

LOGS, OUTPUT, PORT = Path("logs"), Path("report.html"), 6008


def run_report(
    paths: Sequence[Path] = (), *, output: Path | None = None, serve: Path | None = None, port: int | None = None
) -> None:
    """Write runs and results as one page of HTML that stands alone: it needs no network and no other file.

    Of one run: summary, curves, results, pictures, configuration, environment, commands and log. Of several: tables to
    sort, curves together, and pictures over each other. With `serve`, pages are shown to this machine's browsers
    instead, and made anew when runs change, until Ctrl-C.

    Args:
        paths: folders of runs and results, which are searched with all folders below them, or files of results
            (metrics.json, JSON of bench, a plan); none: logs.
        output: the page; null: report.html.
        serve: folder of runs that is shown instead, as it changes; null: a page is written.
        port: of the address 127.0.0.1 at which it is shown, 0 for a free one; null: 6008.

    Raises:
        FileNotFoundError: if a path does not exist, or there is nothing to report.
        ValueError: if `output` does not end in .html, the port is out of range or taken, or options of writing and of
            serving are mixed.
    """
    if serve is not None:
        _serve(serve, paths, output, PORT if port is None else port)
        return
    if port is not None:
        raise ValueError(f"port ({port}) must be given with serve; add --serve DIR or leave it out")
    output = OUTPUT if output is None else output
    if output.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"output ({output}) must end in .html")
    text = render(make_page(find_sources(tuple(paths) or (LOGS,)))).encode()
    with atomic_file(output) as file:
        file.write(text)
    print(f"report: {printable(str(output))} ({len(text) / 1e6:.1f} MB)")


def _serve(folder: Path, paths: Sequence[Path], output: Path | None, port: int) -> None:
    for name, given in (("paths", ", ".join(map(str, paths))), ("output", output)):
        if given:
            raise ValueError(f"{name} ({given}) must be left out with serve ({folder}), which writes no page")
    if not folder.is_dir():
        raise FileNotFoundError(f"serve ({folder}) must be an existing folder of runs, got none")
    if not 0 <= port < 2**16:
        raise ValueError(f"port ({port}) must be from 0 to 65535")
    try:
        server = ReportServer(folder, port, _live_page)
    except OSError as error:
        raise ValueError(f"port ({port}) must be free, got: {error.strerror}; give another (--port 0)") from error
    with server:
        print(f"report of {printable(str(folder))}: {server.address} (Ctrl-C ends it)", flush=True)
        with suppress(KeyboardInterrupt):
            server.serve_forever()


def _live_page(sources: Sources, run: int | None) -> str:
    return render(make_page(sources, run, linked=True), live=True)


def make_page(sources: Sources, run: int | None = None, *, linked: bool = False) -> Page:
    """Make the page of runs and results.

    Args:
        sources: what is shown.
        run: number of the run that is shown alone; None: all, where there are several.
        linked: whether the pages of single runs can be reached from it.
    """
    made = f"Made by lowrank report, version {versions()['lowrank-attention']}, {utc_now()}"
    alone = run if run is not None else 0 if len(sources.runs) == 1 else None
    if alone is None:
        count = len(sources.runs)
        subtitle = f"{count} runs" if count else "results"
        results = _results(sources, sources.results)
        return Page(title_of(sources.roots), subtitle, sections_of_all(sources, results, linked=linked), made=made)
    listed = sources.runs[alone]
    files = sources.results if run is None else sources.of_run(listed.folder)
    sections = sections_of_run(listed, sources, _results(sources, files))
    home = "/" if linked and run is not None else ""
    name = sources.name(listed.folder)
    return Page(name, printable(str(listed.folder)), sections, state=listed.outcome, made=made, home=home)


def _results(sources: Sources, files: Sequence[Path]) -> list[Result]:
    found = [read_result(file, _name(sources, file)) for file in files]
    return [result for result in found if result is not None]


def _name(sources: Sources, file: Path) -> str:
    return sources.name(file.parent if file.name == "metrics.json" else file)
