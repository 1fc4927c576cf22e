"""The line that says how far generation is, on a terminal or in a log."""

from __future__ import annotations

import time
from collections.abc import Callable

from steering_reliability.report.terminal import MAX_WIDTH

_LIVE_SECONDS = 0.2
_LOG_SECONDS = 15.0


class ProgressLine:
    """How far generation is: completions done, completions per second, time left.

    On a terminal one line is rewritten in place; elsewhere, as in a CI log, a new line comes at
    most every 15 seconds. Nothing is written before the first completion is done.

    Args:
        total: completions to generate, those from the store not among them.
        write: takes text as it is to appear, control characters included.
        live: whether ``write`` reaches a terminal that can rewrite a line.
        width: columns of that terminal.
        clock: seconds from any start; replaced in tests.
    """

    def __init__(
        self,
        total: int,
        write: Callable[[str], object],
        *,
        live: bool,
        width: int = 80,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total = total
        self._write = write
        self._live = live
        self._width = min(width, MAX_WIDTH)
        self._clock = clock
        self._started = clock()
        # A log's first line waits a full period: short runs need none but the last.
        self._shown_at = self._started if not live else -float("inf")
        self._done = 0
        self._on_screen = 0

    def update(self, done: int) -> None:
        """Say that ``done`` completions are finished; shown when it is time."""
        self._done = done
        now = self._clock()
        period = _LIVE_SECONDS if self._live else _LOG_SECONDS
        if not 0 < done < self._total or now - self._shown_at < period:
            # What is complete is for the last line to say.
            return
        self._shown_at = now
        self._show(self._text(now))

    def clear(self) -> None:
        """Take the live line off the screen, so that something else can be written there."""
        if self._live and self._on_screen:
            self._write("\r" + " " * self._on_screen + "\r")
            self._on_screen = 0

    def close(self) -> None:
        """End with one lasting line; with nothing done, without any."""
        if not self._done:
            return
        seconds = self._clock() - self._started
        text = f"{self._count()} completions in {_duration(seconds)}{self._rate(seconds)}"
        self._show(f"steering: {text}")
        if self._live:
            self._write("\n")
            self._on_screen = 0

    def _count(self) -> str:
        return f"{self._done:,}" if self._done == self._total else f"{self._done:,}/{self._total:,}"

    def _rate(self, seconds: float) -> str:
        return f", {self._done / seconds:.1f}/s" if seconds > 0 else ""

    def _text(self, now: float) -> str:
        seconds = now - self._started
        text = f"steering: {self._done:,}/{self._total:,} completions{self._rate(seconds)}"
        if seconds > 0 and self._done < self._total:
            left = (self._total - self._done) * seconds / self._done
            text += f", {_duration(left)} left"
        return text

    def _show(self, text: str) -> None:
        if not self._live:
            self._write(text + "\n")
            return
        # One column stays free: a full line would make the terminal wrap and scroll.
        text = text[: self._width - 1]
        self._write("\r" + text.ljust(self._on_screen))
        self._on_screen = len(text)


def _duration(seconds: float) -> str:
    """``0:42``, ``12:05`` or ``1:02:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
