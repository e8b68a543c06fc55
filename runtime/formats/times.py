"""Times as people write them."""

from stale_runtime.detections import FRACTION


def time_in_unit(value: float, unit: str) -> str:
    """A time as a table shows it: ``clock_time`` of seconds, or a fraction of the video with three digits."""
    return f"{value:.3f}" if unit == FRACTION else clock_time(value)


def clock_time(seconds: float) -> str:
    """Hours, minutes, seconds and milliseconds of a time that is 0 or more, such as ``01:02:03.004``."""
    return clock_time_of_ms(round(seconds * 1000))


def clock_time_of_ms(milliseconds: int, point: str = ".") -> str:
    """Like ``clock_time``, of whole milliseconds, which ``point`` stands before."""
    minutes, milliseconds = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02}{point}{milliseconds % 1000:03}"
