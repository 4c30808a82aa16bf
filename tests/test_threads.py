"""Stages at work at once: in order, bounded, and ended by the first error."""

import contextlib
import threading
from collections.abc import Iterator

import pytest

from evertune.threads import ahead, behind


def workers() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith(("ahead", "behind"))]


def test_results_come_in_order_and_threads_end() -> None:
    assert list(behind(ahead(range(100)), lambda one: one * 2)) == list(range(0, 200, 2))
    assert list(ahead([])) == [] == list(behind([], str))
    assert list(ahead([None, None])) == [None, None]
    assert workers() == []


def test_the_next_item_is_made_while_one_is_in_use_and_no_more() -> None:
    made: list[int] = []
    second = threading.Event()

    def items() -> Iterator[int]:
        for number in range(9):
            made.append(number)
            if number == 1:
                second.set()
            yield number

    stream = ahead(items())
    assert next(stream) == 0
    assert second.wait(10) and made == [0, 1]
    stream.close()
    assert made == [0, 1] and workers() == []


def test_the_next_item_is_made_while_the_function_works_on_one() -> None:
    other_is_made = threading.Event()

    def items() -> Iterator[int]:
        yield 0
        other_is_made.set()
        yield 1

    assert list(behind(items(), lambda _: other_is_made.wait(10))) == [True, True]


def test_an_error_of_any_stage_ends_all() -> None:
    def broken() -> Iterator[int]:
        yield 0
        raise ValueError("reading")

    done: list[int] = []
    with pytest.raises(ValueError, match="reading"):
        list(behind(ahead(broken()), done.append))
    assert done == [0]
    with pytest.raises(ZeroDivisionError), contextlib.closing(ahead(range(-2, 9))) as numbers:
        list(behind(numbers, lambda one: 1 // one))
    assert workers() == []
