"""Label tracks of Audacity."""

from stale_runtime.formats.run_result import RunResult
from stale_runtime.system.text import plain_line


def audacity_labels(result: RunResult) -> str:
    """A label track of one video, in order of time: start and end in seconds and the label, with tabs between them.

    Source: "Importing and Exporting Labels", Audacity manual.
    """
    rows = sorted(result.shown[0], key=lambda row: (row.start, row.end))
    return "".join(f"{row.start:.6f}\t{row.end:.6f}\t{plain_line(row.label)}\n" for row in rows)
