"""``stale-bench``: measures speed, memory and mAP of each backend at each length."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import click

from stale_bench.bench_options import (
    SECONDS,
    bundle_option,
    format_option,
    lengths_option,
    output_option,
    prompts_option,
    render_option,
    seed_option,
    threads_option,
)
from stale_bench.benchmark_backends import ALL, BACKENDS
from stale_bench.measuring.benchmark import Benchmark
from stale_bench.measuring.plan import BenchmarkRequest, Plan
from stale_bench.measuring.prepare import prepare
from stale_bench.measuring.thesis import ThesisRequest
from stale_bench.reporting import plots, tables
from stale_bench.reporting.benchmark_results import Results, check_can_be_shown, read_benchmark_results
from stale_bench.reporting.compare import compare, comparison_table
from stale_bench.reporting.report import (
    STYLES,
    CompareRequest,
    Form,
    MakeReport,
    ReportRequest,
    is_page,
    make_report,
    make_thesis_report,
    render_report,
)
from stale_bench.reporting.summary import summarise
from stale_bench.soak.soak import FEWEST_VIDEOS, SoakRequest, prepare_soak, run_soak
from stale_runtime import __version__
from stale_runtime.errors import BenchmarkError, LimitError
from stale_runtime.exit_codes import (
    BAD_BUNDLE,
    LIMIT_MISSED,
    MISSING_PACKAGE,
    SOME_FAILED,
    describe_exit_codes,
)
from stale_runtime.inference.backends import LOCALIZER_BACKENDS
from stale_runtime.inputs.features import MOST_SNIPPETS
from stale_runtime.system.workspace import workspace
from stale_runtime.terminal import console
from stale_runtime.terminal.endings import explain_ending
from stale_runtime.terminal.options import PATH, Length, Lengths, SpaceSeparated
from stale_runtime.terminal.output import check_not_an_input, write_output
from stale_runtime.terminal.progress import Progress

NAME = "stale-bench"
EXIT_CODES = describe_exit_codes(BAD_BUNDLE, SOME_FAILED, MISSING_PACKAGE)
_RANGES = ("lengths", "snippets")

Request = TypeVar("Request")


@click.group(invoke_without_command=True, epilog=EXIT_CODES)
@click.option(
    "--backend",
    "backends",
    cls=SpaceSeparated,
    type=click.Choice([*BACKENDS, ALL]),
    metavar="BACKEND ...",
    help=f"Backends to measure, of {', '.join(BACKENDS)}; all: every one that can run here.  "
    "[default: those that stale-run has and can use]",
)
@lengths_option
@click.option(
    "--snippets",
    cls=SpaceSeparated,
    type=Lengths(longest=MOST_SNIPPETS),
    metavar="N|START:STOP:STEP ...",
    help="Time videos of N snippets from features to detections: whole, resampled to each of --lengths and to N "
    "itself, and window by window, as stale-run does by default.  [default: time each stage of the network]",
)
@bundle_option
@threads_option
@click.option(
    "--baseline",
    type=click.Choice(list(BACKENDS)),
    metavar="BACKEND",
    help="Backend that the others' times are divided by; with --snippets, its time for a whole video at T = N.  "
    "[default: the first one]",
)
@click.option(
    "--features",
    type=PATH,
    metavar="FOLDER",
    help="Feature files to measure on; with --snippets, they are joined at random until they are as long.  "
    "[default: random features]",
)
@click.option("--ground-truth", type=PATH, metavar="FILE", help="Annotations of these videos, to compute mAP.")
@click.option("--subset", metavar="NAME", help="Subset of the annotations, such as validation.  [default: all]")
@click.option(
    "--video-info",
    type=PATH,
    metavar="FILE",
    help="CSV file with the columns video, subset and seconds, for --subset of annotations without subsets.",
)
@prompts_option
@click.option(
    "--budget",
    "budget_s",
    type=SECONDS,
    metavar="SECONDS",
    help="Time for everything; every backend is started once at every length, however long that takes.  "
    "[default: 30 for each backend and length]",
)
@seed_option
@format_option
@output_option
@click.option(
    "--plot",
    type=PATH,
    metavar="FILE.png|FILE.svg",
    help="Draw latency, memory and mAP over length to this image; with --snippets, over N.",
)
@render_option
@click.option(
    "--compare", nargs=2, type=PATH, metavar="OLD NEW", help="Measure nothing, but compare two files that -o wrote."
)
@click.option(
    "--despite",
    multiple=True,
    metavar="FIELD",
    help="With --compare: a condition that may differ, such as machine.cpu or versions.",
)
@click.version_option(__version__, prog_name=NAME)
@click.pass_context
def stale_bench(
    context: click.Context,
    /,
    form: Form,
    outputs: tuple[Path, ...],
    plot: Path | None,
    render: Path | None,
    compare: tuple[Path, Path] | None,
    despite: tuple[str, ...],
    **options: Any,
) -> int | None:
    """Measure latency, memory and mAP of backends.

    Each backend runs in processes of its own, which stay on one CPU and take turns, so that whatever disturbs the
    machine disturbs all of them alike.

    \b
      stale-bench --backend ort-int8 --lengths 100 200
      stale-bench --backend all --lengths 100 200 400 800 --features feats/ --ground-truth gt.json -o results.json
      stale-bench --backend upstream-int8 ort-int8 --snippets 200 1000 3000 30000
      stale-bench --snippets 350 700 1400 2800 --features feats/ --ground-truth gt.json --plot lengths.png
      stale-bench --lengths 100 200 -o results.json -o results.html
      stale-bench --render results.json --format html -o results.html
      stale-bench --compare old.json new.json
      stale-bench thesis
      stale-bench soak
    """  # noqa: D301 -- click reads the backslash
    given = _given(context)
    if (subcommand := context.invoked_subcommand) is not None:
        if given:
            raise click.UsageError(_misplaced(context, subcommand, given))
        return None
    if compare is not None:
        if others := given - {"compare", "despite", "form"}:
            raise click.UsageError(f"--compare measures nothing, so leave out {_first_option(context, others)}")
        old, new = compare
        return _compare(_make_request(CompareRequest, old=old, new=new, despite=despite, form=form))
    if despite:
        raise click.UsageError("--despite belongs to --compare")
    report = _make_request(ReportRequest, form=form, outputs=outputs, plot=plot)
    if render is not None:
        _check_only_renders(context, given)
        return _render(render, report)
    return _measure(_make_request(BenchmarkRequest, **_flatten_ranges(options)), report)


@stale_bench.command("thesis", epilog=EXIT_CODES)
@click.option(
    "--lengths",
    cls=SpaceSeparated,
    type=Lengths(),
    metavar="N|START:STOP:STEP ...",
    help="Snippets that videos are resampled to.  [default: 100 200:3000:200, as in the thesis]",
)
@click.option(
    "--seeds",
    type=click.IntRange(1, 100),
    metavar="N",
    default=5,
    show_default=True,
    help="Processes for each backend and length; each draws other weights and features.",
)
@click.option(
    "--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Where the original runs."
)
@bundle_option
@threads_option
@click.option(
    "--budget",
    "budget_s",
    type=SECONDS,
    metavar="SECONDS",
    help="Time for everything; if it is short, there are fewer seeds.  [default: as long as it takes]",
)
@format_option
@output_option
@render_option
@click.pass_context
def thesis_command(
    context: click.Context, /, form: Form, outputs: tuple[Path, ...], render: Path | None, **options: Any
) -> int:
    """Repeat the measurements of the thesis.

    The thesis measured the dynamically quantized original on a CPU, at lengths from 100 to 3000; this project's
    backends are measured beside it. With --device cuda: time, memory and utilisation of the original on a GPU.

    \b
      stale-bench thesis --format markdown -o thesis.json
      stale-bench thesis --render thesis.json -o thesis.html
    """  # noqa: D301 -- click reads the backslash
    report = _make_request(ReportRequest, form=form, outputs=outputs)
    if render is not None:
        _check_only_renders(context, _given(context))
        return _render(render, report, make_thesis_report)
    request = _make_request(ThesisRequest, **_flatten_ranges(options))
    return _measure(request.to_benchmark(), report, make_thesis_report)


@stale_bench.command("soak", epilog=describe_exit_codes(BAD_BUNDLE, MISSING_PACKAGE, LIMIT_MISSED))
@click.option(
    "--videos",
    type=click.IntRange(FEWEST_VIDEOS),
    metavar="N",
    default=20_000,
    show_default=True,
    help="Videos to detect in, from 16 to 3,000 snippets long.",
)
@click.option(
    "--backend",
    type=click.Choice(list(LOCALIZER_BACKENDS)),
    help="Backend to run.  [default: int8 if the bundle proves its mAP, else fp32]",
)
@click.option(
    "--length",
    type=Length(),
    metavar="N|auto",
    default="auto",
    show_default=True,
    help="Snippets that videos are resampled to; auto: twice the trained length for long videos.",
)
@bundle_option
@click.option(
    "--threads",
    type=click.IntRange(1),
    metavar="N",
    default=1,
    show_default=True,
    help="CPU threads that the backend may use.",
)
@prompts_option
@seed_option
@click.option(
    "--format",
    "form",
    type=click.Choice(list(STYLES)),
    default="table",
    show_default=True,
    help="How to print the results.",
)
def soak_command(form: Form, **options: Any) -> None:
    """Run one localizer for long, and check that it does not change.

    The exit code is 7 if memory grows, files stay open, detections change, or if at the end the process is slower than
    new processes that take turns with it. Speed in the first and the last tenth is shown too, but does not affect the
    exit code, because it also depends on what else the machine does.
    """
    plan = prepare_soak(_make_request(SoakRequest, **options))
    progress = Progress(NAME)
    soak = run_soak(plan, say=progress.show)
    progress.end()
    console.echo(tables.soak_table(soak, STYLES[form]), nl=False)
    if problems := soak.problems():
        raise LimitError("; ".join(problems))


def main() -> None:
    """Run ``stale-bench``."""
    console.run_command(stale_bench, NAME)


def _make_request(kind: Callable[..., Request], **options: Any) -> Request:
    """Make a request from options; a ValueError of its validation becomes a usage error."""
    try:
        return kind(**options)
    except ValueError as problem:
        raise click.UsageError(str(problem)) from problem


def _given(context: click.Context) -> set[str]:
    """Names of the options on the command line."""
    command_line = click.core.ParameterSource.COMMANDLINE
    return {name for name in context.params if context.get_parameter_source(name) == command_line}


def _check_only_renders(context: click.Context, given: set[str]) -> None:
    if others := given - {"render", "form", "outputs", "plot"}:
        raise click.UsageError(f"--render measures nothing, so leave out {_first_option(context, others)}")


def _flatten_ranges(options: dict[str, Any]) -> dict[str, Any]:
    """Replace the ranges of ``--lengths`` and ``--snippets`` by each number once, in the order given."""
    ranges: dict[str, Sequence[tuple[int, ...]]] = {name: options[name] for name in _RANGES if name in options}
    flat = {name: tuple(dict.fromkeys(chain.from_iterable(parts))) for name, parts in ranges.items()}
    return {**options, **flat}


def _misplaced(context: click.Context, subcommand: str, given: set[str]) -> str:
    """Say where options belong that stand before a subcommand."""
    known = {parameter.name for parameter in stale_bench.commands[subcommand].params}
    if foreign := given - known:
        return f"{subcommand} has no {_first_option(context, foreign)}; leave it out"
    return f"options of {subcommand} go after its name, as in: {NAME} {subcommand} {_first_option(context, given)}"


def _first_option(context: click.Context, names: set[str]) -> str:
    """The first of these options as it is typed on the command line."""
    options = {parameter.name: parameter.opts[-1] for parameter in context.command.params}
    return min(options[name] for name in names)


def _measure(request: BenchmarkRequest, report: ReportRequest, make: MakeReport = make_report) -> int:
    """Measure, print and write the results, and return the exit code."""
    report.check()
    with workspace() as cache:
        plan = prepare(request, cache, say=partial(console.note, NAME))
        if plan.baseline not in {backend.name for backend in plan.backends}:
            raise click.UsageError(
                f"--baseline {plan.baseline} is not among the backends measured; add it to --backend"
            )
        results, interruption = _run(plan)
    if report.form == "csv":
        for note in tables.missing_notes(results):
            console.note(NAME, note)
    _write(results, report, make)
    return _exit_code(results, interruption)


def _render(path: Path, report: ReportRequest, make: MakeReport = make_report) -> int:
    """Report again what an earlier run measured."""
    report.check()
    for output in report.outputs:
        check_not_an_input(output, {"--render": path}, "-o")
    check_not_an_input(report.plot, {"--render": path}, "--plot")
    results = read_benchmark_results(path)
    check_can_be_shown(results, path)
    _write(results, report, make)
    return 0


def _write(results: Results, report: ReportRequest, make: MakeReport) -> None:
    """Print results, and write them to files; the JSON first, because it cannot be made from the others."""
    if report.prints:
        console.echo(render_report(results, report.form, make), nl=False)
    for output in sorted(report.outputs, key=is_page):
        write_output(render_report(results, "html" if is_page(output) else "json", make), output)
    if report.plot is not None:
        write_output(plots.plot(results, report.plot.suffix.lower()), report.plot, "--plot")
    if written := [*report.outputs, *([] if report.plot is None else [report.plot])]:
        console.note(NAME, f"{len(results.rows)} rows written to {', '.join(map(str, written))}")


def _run(plan: Plan) -> tuple[Results, KeyboardInterrupt | None]:
    """Measure until everything is done, or Ctrl-C or SIGTERM arrives."""
    progress = Progress(NAME)
    benchmark = Benchmark(plan=plan, say=lambda text, left_s: progress.show(text, left_s=left_s))
    interruption = None
    try:
        benchmark.run()
    except KeyboardInterrupt as problem:
        interruption = problem
    progress.end()
    return summarise(benchmark, complete=interruption is None), interruption


def _exit_code(results: Results, interruption: KeyboardInterrupt | None) -> int:
    if interruption is not None:
        interruption.args = ("the results contain what was measured before that",)
        ending = explain_ending(interruption)
        console.note(NAME, ending.message)
        return ending.exit_code
    failed = sum(row.error is not None for row in results.rows)
    if failed == len(results.rows):
        raise BenchmarkError(f"all {failed} rows failed: {results.rows[0].error}")
    if failed:
        console.note(NAME, f"{failed} of {len(results.rows)} rows failed; the others are complete")
    return SOME_FAILED if failed else 0


def _compare(request: CompareRequest) -> int:
    changes = compare(read_benchmark_results(request.old), read_benchmark_results(request.new), despite=request.despite)
    console.echo(comparison_table(changes, STYLES[request.form]), nl=False)
    return 0


if __name__ == "__main__":
    main()
