"""Options that several subcommands of ``stale-bench`` have."""

import click

from stale_runtime.terminal.options import PATH, Lengths, Number, SpaceSeparated

FORMATS = click.Choice(["table", "json", "csv", "markdown", "html"])
SECONDS = Number(min=1, max=1e6)

lengths_option = click.option(
    "--lengths",
    cls=SpaceSeparated,
    type=Lengths(),
    metavar="N|START:STOP:STEP ...",
    help="Snippets that videos are resampled to.  [default: the length that the bundle was trained for]",
)
bundle_option = click.option(
    "--bundle", type=PATH, metavar="FOLDER", help="Bundle to measure.  [default: $STALE_BUNDLE, then ./stale_bundle]"
)
threads_option = click.option(
    "--threads",
    type=click.IntRange(1),
    metavar="N",
    default=1,
    show_default=True,
    help="CPU threads that a backend may use; each worker stays on that many CPUs.",
)
prompts_option = click.option(
    "--prompts",
    type=PATH,
    metavar="FILE",
    help="Class names to look for, one per line.  [default: those whose embeddings are in the bundle]",
)
seed_option = click.option(
    "--seed",
    type=click.IntRange(0, 2**31),
    metavar="N",
    default=0,
    show_default=True,
    help="Seed of everything that is random: features, weights, the order of turns.",
)
format_option = click.option(
    "--format",
    "form",
    type=FORMATS,
    default="table",
    show_default=True,
    help="How to print the results; html: a page with curves, which is printed only if -o names no page.",
)
output_option = click.option(
    "-o",
    "--output",
    "outputs",
    type=PATH,
    multiple=True,
    metavar="FILE",
    help="Also write all results, with every sample, to this JSON file, or, if its name ends in .html, as a page. "
    "Can be given twice.",
)
render_option = click.option(
    "--render",
    type=PATH,
    metavar="RESULTS",
    help="Measure nothing, but report what -o wrote to a JSON file, in another --format or to other files.",
)
