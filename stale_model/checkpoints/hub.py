"""Whether Hugging Face can be reached: found out once, in ten seconds at most, where its library tries for minutes."""

from functools import cache
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from urllib.parse import urlsplit

from huggingface_hub import constants, get_session
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils._validators import validate_repo_id
from huggingface_hub.utils.tqdm import enable_progress_bars
from transformers.utils import logging as transformers_logging

from stale_runtime.errors import CheckpointError

_PATIENCE_S = 8
"""Seconds; looking up a name, connecting and answering can each take longer than any limit on one of them."""


def is_here_only(source: str) -> bool:
    """Whether files can only come from this machine, because ``source`` is a folder or Hugging Face is out of reach.

    Args:
        source: a folder, or a Hugging Face id, whose files may be in the cache.
    """
    return Path(source).is_dir() or _why_unreachable(source) is not None


def refuse_out_of_reach(source: str, problem: Exception, *, option: str, files: str) -> None:
    """Make sure that a file is not missing because Hugging Face is out of reach.

    Args:
        source: a folder, or a Hugging Face id.
        problem: what reading it has raised.
        option: what named it, such as ``--clip``.
        files: what a folder has to contain.

    Raises:
        CheckpointError: it is; the message says where to get the files.
    """
    if not isinstance(problem, OSError) or (why := _why_unreachable(source)) is None:
        return
    raise CheckpointError(
        f"{option} {source}: there is no such folder here, {_host()} cannot be reached ({why}), and no earlier "
        f"download is complete; give {option} FOLDER with {files}, which this gets where there is a network: "
        f"hf download {source} --include '*.json' '*.safetensors' --local-dir FOLDER"
    ) from problem


def show_only_downloads() -> None:
    """Show a bar while a file is downloaded, which may take minutes, but none while weights are read."""
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    enable_progress_bars()


def _why_unreachable(source: str) -> str | None:
    """Why a Hugging Face id's files cannot be fetched; None if they perhaps can, or if it is no such id."""
    try:
        validate_repo_id(source)
    except HFValidationError:
        return None
    if Path(source).is_dir():
        return None
    return "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else _find_problem()


def _host() -> str:
    return urlsplit(constants.ENDPOINT).hostname or constants.ENDPOINT


@cache
def _find_problem() -> str | None:
    answer: Queue[str | None] = Queue()
    Thread(target=lambda: answer.put(_ask()), daemon=True).start()
    try:
        return answer.get(timeout=_PATIENCE_S)
    except Empty:
        return f"no answer within {_PATIENCE_S} s"


def _ask() -> str | None:
    try:
        status = get_session().head(constants.ENDPOINT, timeout=_PATIENCE_S).status_code
    except Exception as problem:  # of the HTTP library, which has changed between versions
        return " ".join(str(problem).split())[:100] or type(problem).__name__
    return f"it answers with status {status}" if status >= 500 else None
