"""``stale-bench``: what every backend costs and finds, at every length."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from stale_bench.benchmark_backends import BACKENDS
from stale_bench.benchmark_inputs import read_classes
from stale_bench.measuring.benchmark import Benchmark, Plan
from stale_bench.measuring.prepare import Request, prepare
from stale_bench.progress import Progress
from stale_bench.reporting import plots, thesis
from stale_bench.reporting import tables as report
from stale_bench.reporting.benchmark_results import Results, read_results
from stale_bench.reporting.compare import compare, comparison_table
from stale_bench.reporting.summary import summarise
from stale_bench.soak import soak
from stale_runtime import Bundle, Localizer, Settings, __version__, find_bundle
from stale_runtime.errors import BenchmarkError
from stale_runtime.inference.backends import LOCALIZER_BACKENDS
from stale_runtime.launch import INTERRUPTED
from stale_runtime.system.workspace import workspace
from stale_runtime.terminal import console
from stale_runtime.terminal.options import PATH, Length, Lengths, Number, SpaceSeparated
from stale_runtime.terminal.output import check_output, write_output

NAME = "stale-bench"
SOME_FAILED = 5
STYLES = {"table": "simple", "markdown": "github"}
EXIT_CODES = (
    "Exit codes: 0 done, 2 usage, 3 bad input, 4 bad bundle, 5 some rows failed, 1 cannot be measured, or a bug."
)
BUDGET = Number(min=1, max=1e6)
FORMATS = click.Choice(["table", "json", "csv", "markdown"])


@click.group(invoke_without_command=True, epilog=EXIT_CODES)
@click.option(
    "--backend",
    "backends",
    cls=SpaceSeparated,
    type=click.Choice([*BACKENDS, "all"]),
    help="Which to measure; all: those that can run here. Default: what the bundle is deployed with.",
)
@click.option(
    "--lengths",
    cls=SpaceSeparated,
    type=Lengths(),
    metavar="N|START:STOP:STEP ...",
    help="Snippets that videos are resampled to; default: as trained.",
)
@click.option("--bundle", type=PATH, help="Default: $STALE_BUNDLE, then ./stale_bundle.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads, and CPUs, to use.")
@click.option("--baseline", type=click.Choice(list(BACKENDS)), help="Divide others' times by its; default: the first.")
@click.option("--features", type=PATH, help="Folder of feature files to measure on; default: random features.")
@click.option("--ground-truth", type=PATH, help="Annotations of these videos, to compute mAP.")
@click.option("--subset", help="Of the annotations, as validation; default: all.")
@click.option("--prompts", type=PATH, help="Class names, one a line; default: those that the bundle carries.")
@click.option(
    "--budget",
    type=BUDGET,
    help="Seconds to take in all, if that is enough to start everything once; default: 30 a row.",
)
@click.option("--seed", type=click.IntRange(0, 2**31), default=0, show_default=True, help="Of all that is random.")
@click.option("--format", "form", type=FORMATS, default="table", show_default=True)
@click.option("-o", "--output", type=PATH, help="Also write everything, raw samples included, to this JSON file.")
@click.option("--plot", type=PATH, metavar="FILE.png|svg", help="Draw latency, memory and mAP over length.")
@click.option("--compare", nargs=2, type=PATH, metavar="OLD NEW", help="Measure nothing; compare two files of -o.")
@click.option("--despite", multiple=True, metavar="FIELD", help="With --compare: a condition that may differ.")
@click.version_option(__version__, prog_name=NAME)
@click.pass_context
def stale_bench(context: click.Context, /, **options: Any) -> int | None:
    """Measure latency, memory and mAP of backends, each in processes of its own that stay on one CPU.

    \b
      stale-bench --backend ort-int8 --lengths 100 200
      stale-bench --backend all --lengths 100 200 400 800 --features feats/ --ground-truth gt.json -o results.json
      stale-bench --compare old.json new.json
      stale-bench thesis
      stale-bench soak
    """  # noqa: D301 -- click reads the backslash
    given = {name for name in options if context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE}
    if context.invoked_subcommand is not None:
        if given:
            raise click.UsageError(f"options of {context.invoked_subcommand} stand behind it")
        return None
    if options["compare"] is not None:
        return _compare(options, given)
    _check_usage(options)
    with workspace() as cache:
        plan, left_out = prepare(_request(options), cache)
        baseline = options["baseline"] or plan.backends[0].name
        if baseline not in {backend.name for backend in plan.backends}:
            raise click.UsageError(f"--baseline {baseline} is not among the backends measured; add it to --backend")
        results, code = _measure(plan, baseline, left_out)
    console.echo(_rendered(results, options["form"]), nl=False)
    _write(results, options)
    return _exit_code(results, code)


@stale_bench.command("thesis", epilog=EXIT_CODES)
@click.option(
    "--lengths",
    cls=SpaceSeparated,
    type=Lengths(),
    metavar="N|START:STOP:STEP ...",
    help="Default: 100 200:3000:200.",
)
@click.option("--seeds", type=click.IntRange(1, 100), default=5, show_default=True, help="Each draws weights anew.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--bundle", type=PATH, help="Default: $STALE_BUNDLE, then ./stale_bundle.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads, and CPUs, to use.")
@click.option("--budget", type=BUDGET, help="Seconds to take at most, which may cost seeds; default: as needed.")
@click.option("--format", "form", type=FORMATS, default="table", show_default=True)
@click.option("-o", "--output", type=PATH, help="Also write everything, raw samples included, to this JSON file.")
def thesis_command(device: str, seeds: int, **options: Any) -> int:
    """Time the dynamically quantized original over the thesis's lengths, beside ours.

    With --device cuda: the original's time, memory and utilisation on a GPU.
    """
    check_output(options["output"])
    lengths = _flat(options["lengths"]) or thesis.LENGTHS
    request = Request(backends=(), lengths=lengths, bundle=options["bundle"], threads=options["threads"])
    with workspace() as cache:
        choose = thesis.choose_gpu if device == "cuda" else thesis.choose_cpu
        plan, left_out = prepare(request, cache, choose=choose)
        rounds = (thesis.ROUNDS, thesis.ROUNDS)
        plan = replace(plan, launches=seeds, rounds=rounds, budget_s=options["budget"], cold_prompts=False)
        results, code = _measure(plan, plan.backends[0].name, left_out)
    if options["form"] in STYLES:
        table = thesis.gpu_table if device == "cuda" else thesis.thesis_table
        console.echo(table(results, STYLES[options["form"]]), nl=False)
    else:
        console.echo(_rendered(results, options["form"]), nl=False)
    _write(results, {**options, "plot": None})
    return _exit_code(results, code)


@stale_bench.command("soak", epilog=EXIT_CODES)
@click.option("--videos", type=click.IntRange(soak.FEWEST_VIDEOS), default=20_000, show_default=True)
@click.option(
    "--backend", type=click.Choice(list(LOCALIZER_BACKENDS)), help="Default: what the bundle is deployed with."
)
@click.option("--length", type=Length(), default="auto", show_default=True, help="Snippets to resample videos to.")
@click.option("--bundle", type=PATH, help="Default: $STALE_BUNDLE, then ./stale_bundle.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads an operator may use.")
@click.option("--prompts", type=PATH, help="Class names, one a line; default: those that the bundle carries.")
@click.option("--seed", type=click.IntRange(0, 2**31), default=0, show_default=True, help="Of all that is random.")
@click.option("--format", "form", type=click.Choice(list(STYLES)), default="table", show_default=True)
def soak_command(videos: int, seed: int, form: str, **options: Any) -> None:
    """Detect in very many videos with one localizer, and see whether it stays as it was.

    Memory that grows, files left open, detections that change, or less speed than new processes have, in turns with it
    at its end, end it with code 1. Its own first and last tenth differ by what else the machine does as well.
    """
    settings = Settings(backend=options["backend"], length=options["length"], threads=options["threads"])
    localizer = Localizer(Bundle(find_bundle(options["bundle"])), settings)
    classes = read_classes(localizer.bundle, options["prompts"])
    progress = Progress(NAME)
    done = soak.soak(
        localizer,
        classes,
        videos=videos,
        seed=seed,
        say=lambda text: progress.say(text, None),
    )
    progress.done()
    console.echo(report.soak_table(done, STYLES[form]), nl=False)
    if done.problems():
        raise BenchmarkError("; ".join(done.problems()))


def main() -> None:
    """Run ``stale-bench``."""
    console.run(stale_bench, NAME)


def _check_usage(options: Mapping[str, Any]) -> None:
    if options["despite"]:
        raise click.UsageError("--despite belongs to --compare")
    if options["ground_truth"] is not None and options["features"] is None:
        raise click.UsageError("--ground-truth without --features; give the folder of these videos' feature files")
    if options["subset"] is not None and options["ground_truth"] is None:
        raise click.UsageError("--subset without --ground-truth, whose videos it chooses from")
    check_output(options["output"])
    plot: Path | None = options["plot"]
    if plot is not None:
        if plot.suffix.lower() not in plots.SUFFIXES:
            raise click.UsageError(f"--plot {plot}: expected a name that ends in {' or '.join(plots.SUFFIXES)}")
        check_output(plot, "--plot")
        plots.check_can_plot()


def _request(options: Mapping[str, Any]) -> Request:
    return Request(
        backends=options["backends"],
        lengths=_flat(options["lengths"]),
        bundle=options["bundle"],
        threads=options["threads"],
        features=options["features"],
        ground_truth=options["ground_truth"],
        subset=options["subset"],
        prompts=options["prompts"],
        budget_s=options["budget"],
        seed=options["seed"],
    )


def _measure(plan: Plan, baseline: str, left_out: Mapping[str, str]) -> tuple[Results, int]:
    """What was measured, and the exit code so far."""
    progress = Progress(NAME)
    benchmark = Benchmark(plan=plan, say=progress.say)
    code = 0
    try:
        benchmark.run()
    except KeyboardInterrupt:
        code = INTERRUPTED
    progress.done()
    return summarise(benchmark, baseline=baseline, complete=not code, unavailable=left_out), code


def _write(results: Results, options: Mapping[str, Any]) -> None:
    if options["output"] is not None:
        write_output(results.to_json(), options["output"])
    plot: Path | None = options["plot"]
    if plot is not None:
        write_output(plots.plot(results, plot.suffix.lower()), plot, "--plot")


def _rendered(results: Results, form: str) -> str:
    if form == "json":
        return results.to_json()
    if form == "csv":
        for name, why in results.unavailable.items():
            console.note(NAME, f"not available: {name}: {why}")
        return report.results_csv(results)
    return report.results_table(results, STYLES[form])


def _exit_code(results: Results, code: int) -> int:
    if code:
        console.note(NAME, "interrupted; what was measured by then is above")
        return code
    failed = sum(row.error is not None for row in results.rows)
    if failed == len(results.rows):
        raise BenchmarkError(f"all {failed} rows failed: {results.rows[0].error}")
    if failed:
        console.note(NAME, f"{failed} of {len(results.rows)} rows failed, the others are done")
    return SOME_FAILED if failed else 0


def _compare(options: Mapping[str, Any], given: set[str]) -> int:
    others = given - {"compare", "despite", "form"}
    if others:
        raise click.UsageError(f"--compare measures nothing, so leave out --{sorted(others)[0].replace('_', '-')}")
    if options["form"] not in STYLES:
        raise click.UsageError("--compare prints --format table or markdown")
    old, new = map(read_results, options["compare"])
    changes = compare(old, new, despite=options["despite"])
    console.echo(comparison_table(changes, STYLES[options["form"]]), nl=False)
    return 0


def _flat(lengths: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Every length once, in the order given."""
    return tuple(dict.fromkeys(length for part in lengths for length in part))
