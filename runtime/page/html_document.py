"""One HTML file that holds all it needs, asks no network for anything, and treats text from inputs as text."""

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any
from xml.etree import ElementTree

from stale_runtime.version import __version__


def read_asset(name: str) -> str:
    """The text of one of the files that belong to the pages: styles, scripts, fixed markup."""
    return files("stale_runtime.page").joinpath("assets", name).read_text("utf-8")


def element(tag: str, /, *content: str | ElementTree.Element, **attributes: str) -> ElementTree.Element:
    """An HTML element.

    Args:
        tag: its name.
        content: text, which never becomes markup, and other elements.
        attributes: by name; a trailing underscore is dropped (``class_``), other underscores become hyphens.

    Returns:
        An element for ``markup``.
    """
    made = ElementTree.Element(tag, {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()})
    last: ElementTree.Element | None = None
    for part in content:
        if not isinstance(part, str):
            made.append(part)
            last = part
        elif last is None:
            made.text = (made.text or "") + part
        else:
            last.tail = (last.tail or "") + part
    return made


def markup(*elements: ElementTree.Element) -> str:
    """Elements as HTML, one after the other."""
    return "\n".join(ElementTree.tostring(part, encoding="unicode", method="html") for part in elements)


def html_document(
    *,
    title: str,
    body: str,
    styles: Sequence[str] = (),
    scripts: Sequence[str] = (),
    data: Any = None,
    plays_media: bool = False,
) -> str:
    """A whole HTML file, whose policy allows these styles and scripts and nothing else.

    Images may only be ``data:`` URLs. Nothing may be fetched, submitted or framed.

    Args:
        title: any text.
        body: markup: what ``markup`` returns, or a file of this package. Text from inputs goes through ``element``, or
            into ``data``.
        styles: CSS beside that of all pages, see ``assets/page.css``.
        scripts: JavaScript, run in this order after the body is there.
        data: what JSON can hold, for the scripts: ``JSON.parse(document.getElementById("data").textContent)``.
        plays_media: whether the page plays a video that lies where the page lies.

    Returns:
        The text of the file, which can be encoded as UTF-8 even if names in it could not.

    Raises:
        ValueError: ``data`` holds NaN or infinity, or a style or script would end its own element.
    """
    styles = (read_asset("page.css"), *styles)
    for name, texts in (("style", styles), ("script", scripts)):
        if any(f"</{name}" in text.lower() or "<!--" in text for text in texts):
            raise ValueError(f"a {name} contains </{name} or <!--, which would end it early")
    parts = [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(styles, scripts, plays_media)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="referrer" content="no-referrer">',
        f'<meta name="generator" content="stale-edge {html.escape(__version__)}">',
        '<link rel="icon" href="data:,">',
        f"<title>{html.escape(title)}</title>",
        *(f"<style>{text}</style>" for text in styles),
        "</head>",
        "<body>",
        body,
        *([] if data is None else [f'<script type="application/json" id="data">{_embedded_json(data)}</script>']),
        *(f"<script>{text}</script>" for text in scripts),
        "</body>",
        "</html>",
    ]
    # Names of files may contain lone surrogates, which have no encoding. A CR or NUL would not reach the parser as
    # itself, so that no hash would fit; our own files have none.
    return ("\n".join(parts) + "\n").encode("utf-8", "replace").decode()


def _policy(styles: Sequence[str], scripts: Sequence[str], plays_media: bool) -> str:
    """A Content-Security-Policy. ``file:`` lets a page on a disk play what lies there; a page on a server may not."""
    rules = {
        "default-src": ["'none'"],
        "script-src": [_source_hash(text) for text in scripts] or ["'none'"],
        "style-src": [_source_hash(text) for text in styles],
        "img-src": ["data:"],
        "media-src": ["'self'", "file:"] if plays_media else ["'none'"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
    }
    return "; ".join(" ".join((name, *sources)) for name, sources in rules.items())


def _source_hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _embedded_json(data: Any) -> str:
    """JSON that cannot end the script element that it stands in."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")
