"""Work in threads: in order, a few items at a time, and an error is raised where the result is wanted."""

import contextlib
import os
import threading
import time
from collections.abc import Iterator

import pytest

from evertune.runtime.threads import BackgroundWorker, iterate_ahead, map_behind, map_in_threads


def failing(number: int) -> int:
    if number == 5:
        raise ValueError("five")
    return number * number


def endless() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1


def test_results_come_in_order_and_only_a_few_are_made_ahead() -> None:
    made = []
    found = map_in_threads(lambda number: made.append(number) or number * number, endless())
    assert [next(found) for _ in range(50)] == [number * number for number in range(50)]
    found.close()
    assert len(made) < 50 + 40


def test_no_more_are_worked_on_at_once_than_may_be() -> None:
    lock = threading.Lock()
    now = [0]
    most = [0]

    def work(number: int) -> int:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.005)
        with lock:
            now[0] -= 1
        return number

    assert list(map_in_threads(work, range(12), 1)) == list(range(12))
    assert most == [1]
    assert len(list(map_in_threads(work, range(12)))) == 12
    assert most[0] == min(12, os.cpu_count() or 1)


@pytest.mark.parametrize(
    "how", [lambda: map_in_threads(failing, range(9)), lambda: iterate_ahead(map(failing, range(9)))]
)
def test_an_error_stands_in_its_place(how) -> None:
    found = how()
    assert [next(found) for _ in range(5)] == [0, 1, 4, 9, 16]
    with pytest.raises(ValueError, match="five"):
        next(found)


def test_ahead_gives_the_same_items_from_another_thread() -> None:
    assert list(iterate_ahead(range(20))) == list(range(20))
    assert set(iterate_ahead(threading.get_ident() for _ in range(3))) != {threading.get_ident()}


def test_work_behind_is_done_in_order_and_waited_for() -> None:
    done: list[int] = []
    with BackgroundWorker(done.append) as work:
        for number in range(30):
            work.submit_item(number)
    assert done == list(range(30))


def test_an_error_of_work_behind_is_raised() -> None:
    with pytest.raises(ValueError, match="five"), BackgroundWorker(failing) as work:
        for number in range(6):
            work.submit_item(number)


def workers() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith(("ahead", "behind"))]


def test_results_come_in_order_and_threads_end() -> None:
    assert list(map_behind(iterate_ahead(range(100)), lambda one: one * 2)) == list(range(0, 200, 2))
    assert list(iterate_ahead([])) == [] == list(map_behind([], str))
    assert list(iterate_ahead([None, None])) == [None, None]
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

    stream = iterate_ahead(items())
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

    assert list(map_behind(items(), lambda _: other_is_made.wait(10))) == [True, True]


def test_an_error_of_any_stage_ends_all() -> None:
    def broken() -> Iterator[int]:
        yield 0
        raise ValueError("reading")

    done: list[int] = []
    with pytest.raises(ValueError, match="reading"):
        list(map_behind(iterate_ahead(broken()), done.append))
    assert done == [0]
    with pytest.raises(ZeroDivisionError), contextlib.closing(iterate_ahead(range(-2, 9))) as numbers:
        list(map_behind(numbers, lambda one: 1 // one))
    assert workers() == []
