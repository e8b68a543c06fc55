"""The page of an evaluation: its figures, the classes, precision over recall, and the mistakes. It needs no script."""

from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element

from stale_runtime.evaluation.average_recall import SHOWN_PROPOSALS
from stale_runtime.evaluation.matching import ForeignRule
from stale_runtime.evaluation.measured import Measured
from stale_runtime.evaluation.mistakes import Mistakes, Tally
from stale_runtime.evaluation.score_threshold import ScoreCurve, ScorePoint
from stale_runtime.page.html_document import element, html_document, markup, read_asset
from stale_runtime.page.scrolling_table import scrolling_table

_MOST_VIDEOS = 30
_MOST_PAIRS = 30
_MOST_CLASSES = 1000
_LONGEST_NAME = 200
"""Characters of a name that the page keeps."""
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 640, 360, 60, 44
"""Of the drawing of precision over recall."""
_CURVE_POINTS, _TABLE_POINTS = 400, 21

_RULES: Mapping[ForeignRule, str] = {"published": "count as in the published evaluation", "ignored": "are ignored"}


def evaluation_page(measured: Measured, mistakes: Mistakes, *, name: str, pages: Mapping[str, str]) -> str:
    """The page of an evaluation, in one file.

    Args:
        measured: the figures.
        mistakes: of the detections from the score of ``measured.point`` on.
        name: of what was evaluated, such as the name of a file.
        pages: relative URLs of the pages of videos, by video id; those without one have no link.

    Returns:
        The text of the page.
    """
    title = f"Evaluation of {name[:_LONGEST_NAME]}"
    body = markup(
        element("header", element("h1", title), element("p", _describe(measured), class_="faint")),
        element(
            "main",
            _section("Figures", _figures(measured)),
            _section("Precision over recall", *_precision_recall(measured)),
            _section("Classes", *_classes(measured, mistakes)),
            _section("Confused classes", *_confused(mistakes)),
            _section("Worst videos", *_videos(mistakes, pages)),
        ),
    )
    return html_document(title=title, body=body, styles=[read_asset("evaluation_page.css")])


def _describe(measured: Measured) -> str:
    result = measured.precision
    best = "" if measured.min_score is not None else ", where F1 is best"
    return (
        f"{result.videos:,} videos, {result.classes:,} classes with ground truth. Detections of other classes "
        f"({result.foreign_label_detections:,}) {_RULES[measured.foreign_labels]}, those in other videos "
        f"({result.foreign_video_detections:,}) {_RULES[measured.foreign_videos]}. mAP and average recall are of all "
        "detections; precision, recall, F1 and everything below are of those that score "
        f"{measured.point.score:.4g} or more{best}, at tIoU {measured.curve.tiou:.2f}."
    )


def _figures(measured: Measured) -> Element:
    result, point, recall = measured.precision, measured.point, measured.recall
    figures = [
        ("average mAP", result.average),
        *((f"mAP at tIoU {tiou:.2f}", value) for tiou, value in result.per_tiou.items()),
        ("precision", point.precision),
        ("recall", point.recall),
        ("F1", point.f1),
        *((f"AR@{n}, whatever the class", recall.at(n)) for n in SHOWN_PROPOSALS),
        ("area under AR over AN", recall.area),
    ]
    return scrolling_table("In percent", ("figure", "%"), [(name, _percent(value)) for name, value in figures])


def _precision_recall(measured: Measured) -> list[Element]:
    curve, point = measured.curve, measured.point
    if not curve.scores:
        return [element("p", "There are no detections.")]
    rows = [
        (f"{score:.4g}", _percent(precision), _percent(recall), _percent(f1))
        for score, precision, recall, f1 in _points(curve.thin(_TABLE_POINTS))
    ]
    table = scrolling_table("From each score on, in percent", ("score", "precision", "recall", "F1"), rows)
    return [
        element("figure", _curve_drawing(curve, point)),
        element("details", element("summary", "The same as a table"), table),
    ]


def _points(curve: ScoreCurve) -> Sequence[tuple[float, float, float, float]]:
    return list(zip(curve.scores, curve.precision, curve.recall, curve.f1, strict=True))


def _curve_drawing(curve: ScoreCurve, point: ScorePoint) -> Element:
    """Precision over recall, both from 0 to 1, with the chosen score marked."""
    words = (
        f"Precision over recall. From score {point.score:.4g} on, precision is {_percent(point.precision)} % and "
        f"recall {_percent(point.recall)} %."
    )
    line = " ".join(_place(recall, precision) for _, precision, recall, _ in _points(curve.thin(_CURVE_POINTS)))
    ticks = [tick for step in range(6) for tick in _tick(step / 5)]
    x, y = _place(point.recall, point.precision).split(",")
    beside = {"x": x, "text_anchor": "end" if point.recall > 0.5 else "start"}
    y_of_label = f"{min(float(y) + 22, _HEIGHT - _BOTTOM - 6):.1f}"
    label = element("text", f"score {point.score:.4g}", class_="chosen", y=y_of_label, **beside)
    return element(
        "svg",
        *ticks,
        element("polyline", points=line, class_="curve"),
        element("circle", cx=x, cy=y, r="5", class_="chosen"),
        label,
        element("text", "recall, %", x=f"{(_LEFT + _WIDTH) / 2:.0f}", y=f"{_HEIGHT - 6}", text_anchor="middle"),
        element("text", "precision, %", x="4", y="14"),
        viewBox=f"0 0 {_WIDTH + 20} {_HEIGHT}",
        role="img",
        aria_label=words,
        class_="plot",
    )


def _place(recall: float, precision: float) -> str:
    x = _LEFT + recall * (_WIDTH - _LEFT)
    y = 24 + (1 - precision) * (_HEIGHT - _BOTTOM - 24)
    return f"{x:.1f},{y:.1f}"


def _tick(share: float) -> list[Element]:
    """A line of the grid in either direction, with its number."""
    (left, y), (right, _) = (_place(recall, share).split(",") for recall in (0, 1))
    (x, bottom), (_, top) = (_place(share, precision).split(",") for precision in (0, 1))
    number = f"{100 * share:.0f}"
    return [
        element("line", x1=left, y1=y, x2=right, y2=y, class_="grid"),
        element("line", x1=x, y1=bottom, x2=x, y2=top, class_="grid"),
        element("text", number, x=f"{_LEFT - 6}", y=f"{float(y) + 5:.1f}", text_anchor="end"),
        element("text", number, x=x, y=f"{float(bottom) + 18:.1f}", text_anchor="middle"),
    ]


def _classes(measured: Measured, mistakes: Mistakes) -> list[Element]:
    worst_first = sorted(measured.precision.per_class.items(), key=lambda pair: pair[1])
    rows = []
    for label, precision in worst_first[:_MOST_CLASSES]:
        tally = mistakes.classes.get(label, Tally())
        rows.append((_short(label), _percent(precision), _bar(precision), *_cells(tally)))
    headers = ("class", "AP", "", "right", "wrong", "missed")
    more = len(worst_first) - len(rows)
    rest = [element("p", f"{more:,} more classes are left out.")] if more > 0 else []
    return [scrolling_table("Average precision in percent, the worst first", headers, rows), *rest]


def _bar(share: float) -> Element:
    """A bar for the eye only; the number stands beside it."""
    full = element("rect", width="100", height="12", class_="empty")
    bar = element("rect", width=f"{100 * share:.1f}", height="12", class_="bar")
    return element("svg", full, bar, viewBox="0 0 100 12", class_="bars", aria_hidden="true")


def _confused(mistakes: Mistakes) -> list[Element]:
    pairs = list(mistakes.confused.items())
    if not pairs:
        return [element("p", "No action was found as another class.")]
    rows = [(_short(true), _short(found), f"{count:,}") for (true, found), count in pairs[:_MOST_PAIRS]]
    caption = "Actions that were missed, and where another class was found instead; the most frequent first"
    more = len(pairs) - len(rows)
    rest = [element("p", f"{more:,} more pairs of classes are left out.")] if more > 0 else []
    return [scrolling_table(caption, ("true class", "found class", "actions"), rows, left=2), *rest]


def _videos(mistakes: Mistakes, pages: Mapping[str, str]) -> list[Element]:
    worst = mistakes.worst_videos(_MOST_VIDEOS)
    if not worst:
        return [element("p", "There is no mistake in any video.")]
    rows = [
        (
            element("a", _short(video), href=pages[video]) if video in pages else _short(video),
            _percent(tally.f1),
            *_cells(tally),
        )
        for video, tally in worst
    ]
    return [scrolling_table("Lowest F1 first, in percent", ("video", "F1", "right", "wrong", "missed"), rows)]


def _cells(tally: Tally) -> tuple[str, str, str]:
    return f"{tally.right:,}", f"{tally.wrong:,}", f"{tally.missed:,}"


def _section(title: str, *content: Element) -> Element:
    return element("section", element("h2", title), *content)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"
