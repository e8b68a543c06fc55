"""Times as people write them."""


def clock_time(seconds: float, point: str = ".") -> str:
    """Hours, minutes, seconds and milliseconds, such as ``01:02:03.004``.

    Args:
        seconds: 0 or more.
        point: stands before the milliseconds.
    """
    return clock_time_of_ms(round(seconds * 1000), point)


def clock_time_of_ms(milliseconds: int, point: str = ".") -> str:
    """Like ``clock_time``, of whole milliseconds."""
    minutes, milliseconds = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02}{point}{milliseconds % 1000:03}"
