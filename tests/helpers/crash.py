"""A process that dies at a chosen call, as the tests of what a crash leaves play it."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


class Killed(BaseException):
    """What no `except Exception` catches, like a signal."""


@contextmanager
def killed(owner: Any, name: str, when: str, call: int = 1) -> Iterator[None]:
    """The block dies at this call of `owner.name`.

    Args:
        when: "before" the call does anything, or "after" it is done.
    """
    step = getattr(owner, name)
    calls = itertools.count(1)

    def dies(*arguments: Any, **options: Any) -> Any:
        now = next(calls) == call
        if now and when == "before":
            raise Killed
        result = step(*arguments, **options)
        if now:
            raise Killed
        return result

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(owner, name, dies)
        yield
