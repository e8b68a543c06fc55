"""The pages of the commands, from what click knows of them: the same words as ``--help`` prints."""

import html
import re
from collections.abc import Iterator
from importlib import import_module
from inspect import cleandoc
from pathlib import Path

import click

COMMANDS = {
    "stale-run": "stale_runtime.commands.run:stale_run",
    "stale-features": "stale_runtime.commands.extract_features:stale_features",
    "stale-eval": "stale_runtime.commands.evaluate:stale_eval",
    "stale-merge": "stale_runtime.commands.merge:stale_merge",
    "stale-train": "stale_model.train_command:stale_train",
    "stale-export": "stale_export.export_command:stale_export",
    "stale-bench": "stale_bench.bench_command:stale_bench",
}
"""By the name that is typed, where the command is defined. None of these modules loads PyTorch."""

NOTES = re.compile(r"\s*\[((?:default: |required|env var: |x|[\d.e+-]+<)[^\]]*)\]")
"""What click, or the text of an option, adds at its end: the default, the range."""

CODE = re.compile(
    r"(?<![\w'-])("
    r"(?:stale-(?:run|features|eval|merge|train|export|bench)|--[a-z][a-z0-9-]*|-[a-z]\b)(?: --[a-z][a-z0-9-]*)*"
    r"|pip install '[^']*')"
)
"""What is typed, among other words."""


def write_command_pages(folder: Path) -> None:
    """Write a page for each command into a folder."""
    for name in COMMANDS:
        (folder / f"{name}.md").write_text(make_command_page(name))


def make_command_page(name: str) -> str:
    """The page of a command."""
    return "\n".join(describe(click.Context(find_command(name), info_name=name)))


def find_command(name: str) -> click.Command:
    """A command by the name that is typed."""
    module, function = COMMANDS[name].split(":")
    command: click.Command = getattr(import_module(module), function)
    return command


def describe(context: click.Context, heading: str = "#") -> Iterator[str]:
    """The lines of a command's page: what it does, how it is called, its options, exit codes and subcommands."""
    command = context.command
    yield f"{heading} {context.command_path}"
    yield ""
    usage = command.collect_usage_pieces(context)
    yield from ("```text", " ".join([context.command_path, *usage]), "```", "")
    yield from describe_help(command.help or "")
    yield f"{heading}# Options"
    yield ""
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and isinstance(parameter, click.Option):  # the text above explains the arguments
            anchor = context.command_path.replace(" ", "-") + max(parameter.opts, key=len)
            yield from describe_option(anchor, *record)
    codes = escape((command.epilog or "").removeprefix("Exit codes: "))
    yield from (f"{heading}# Exit codes", "", f"{codes} [What each of them means](../exit_codes.md).".strip(), "")
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            subcommand = command.get_command(context, name)
            assert subcommand is not None
            yield from describe(click.Context(subcommand, parent=context, info_name=name), f"{heading}#")


def describe_help(text: str) -> Iterator[str]:
    r"""The paragraphs of a help text; those after ``\b``, which click leaves as they are, as a block of commands."""
    for paragraph in cleandoc(text).split("\n\n"):
        if paragraph.startswith("\b\n"):
            yield from ("```sh", cleandoc(paragraph.removeprefix("\b\n")), "```", "")
        else:
            yield from (escape(paragraph), "")


def describe_option(anchor: str, declared: str, text: str) -> Iterator[str]:
    """An entry of a definition list: the option as it is typed, its description, and its default and range."""
    notes = "; ".join(NOTES.findall(text))
    yield f"`{declared}` {{ #{anchor} }}"
    yield f":   {escape(NOTES.sub('', text))}"
    if notes:
        yield from ("", f"    *{escape(notes[0].upper() + notes[1:])}.*")
    yield ""


def escape(text: str) -> str:
    """Plain text as Markdown: commands and options as code, and nothing else that Markdown would take for markup."""
    pieces = CODE.split(text)
    pieces[::2] = [re.sub(r"([\\`*_{}\[\]#])", r"\\\1", html.escape(piece, quote=False)) for piece in pieces[::2]]
    pieces[1::2] = [f"`{piece}`" for piece in pieces[1::2]]
    return "".join(pieces)
