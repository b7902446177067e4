"""Errors that a user can act on: one line that names the file, the frame, the key and the mend."""

from __future__ import annotations

from pathlib import Path

LONGEST = 400  # characters of a problem: libraries quote whole files in their messages


class MLIPError(Exception):
    """Base of every error raised on purpose; the command line prints it in one line and exits with 2."""


class InputError(MLIPError, ValueError):
    """Bad input: ``InputError("no forces", file="a.xyz", frame=3, key="forces", mend="--key forces=force")``.

    Args:
        problem: What is wrong, in a few words; what is longer than 400 characters is cut in the line.
        file: The file it is in.
        frame: The frame's index in that file, from 0.
        key: The key or setting concerned.
        mend: What the user can do.
    """

    def __init__(
        self,
        problem: str,
        *,
        file: str | Path | None = None,
        frame: int | None = None,
        key: str | None = None,
        mend: str | None = None,
    ) -> None:
        self.problem, self.file, self.frame, self.key, self.mend = problem, file, frame, key, mend
        super().__init__(self._line())

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self.problem, self.file, self.frame, self.key, self.mend)

    def _line(self) -> str:
        place = [] if self.file is None else [str(self.file)]
        place += [] if self.frame is None else [f"frame {self.frame}"]
        place += [] if self.key is None else [f"key '{self.key}'"]
        problem = self.problem if len(self.problem) <= LONGEST else f"{self.problem[:LONGEST]} …"
        line = f"{', '.join(place)}: {problem}" if place else problem
        line = line if self.mend is None else f"{line} ({self.mend})"
        return " ".join(line.split())


def _rebuild(
    problem: str, file: str | Path | None, frame: int | None, key: str | None, mend: str | None
) -> InputError:
    return InputError(problem, file=file, frame=frame, key=key, mend=mend)
