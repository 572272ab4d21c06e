"""Why a file of weights could not be written."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

_NUMBER = re.compile(r"\(os error (\d+)\)")
"""How safetensors tells the system's error: in words."""


@contextmanager
def system_errors(path: Path) -> Iterator[None]:
    """Raise what the system said, with the file, where a writer of weights raises something else.

    Only the system's error tells a full disk from a defect. safetensors puts its number into a text; torch loses it,
    as it tries to end its archive and finds that it is at another position than it believed.

    Args:
        path: what is written, for the message.

    Raises:
        OSError: with the system's number.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        number = _number(error)
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


def _number(error: BaseException) -> int | None:
    """The system's number of an error, or of what it was raised over; None where the system had no part in it."""
    if found := _NUMBER.search(str(error)):
        return int(found[1])
    over: BaseException | None = error
    while over is not None and not isinstance(over, OSError):
        over = over.__context__
    return None if over is None else over.errno
