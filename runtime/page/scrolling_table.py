"""Tables of pages without scripts."""

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from stale_runtime.page.html_document import element


def scrolling_table(
    caption: str, headers: Sequence[str], rows: Sequence[Sequence[str | Element]], *, left: int = 1
) -> Element:
    """A table that scrolls where it is too wide, which the keyboard has to be able to do too.

    Args:
        caption: what the table shows.
        headers: of the columns; an empty one for a column that needs none.
        rows: cells, as many as headers; the first of each row is the row's header.
        left: how many columns are text; the others are numbers, and aligned to the right.

    Returns:
        An element for ``markup``.
    """
    kinds = ["" if n < left else "number" for n in range(len(headers))]
    head = (
        element("th", header, scope="col", class_=kind) if header else element("td")
        for header, kind in zip(headers, kinds, strict=True)
    )
    body = (
        element(
            "tr",
            element("th", first, scope="row"),
            *(element("td", cell, class_=kind) for cell, kind in zip(cells, kinds[1:], strict=True)),
        )
        for first, *cells in rows
    )
    table = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *head)),
        element("tbody", *body),
    )
    return element("div", table, class_="scroll", role="region", tabindex="0", aria_label=caption)
