"""Work in threads: in order, a few items at a time, and an error is raised where the result is wanted."""

import threading
from collections.abc import Iterator

import pytest

from evertune.parallel import Behind, ahead, mapped


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
    found = mapped(lambda number: made.append(number) or number * number, endless())
    assert [next(found) for _ in range(50)] == [number * number for number in range(50)]
    found.close()
    assert len(made) < 50 + 40


@pytest.mark.parametrize("how", [lambda: mapped(failing, range(9)), lambda: ahead(map(failing, range(9)))])
def test_an_error_stands_in_its_place(how) -> None:
    found = how()
    assert [next(found) for _ in range(5)] == [0, 1, 4, 9, 16]
    with pytest.raises(ValueError, match="five"):
        next(found)


def test_ahead_gives_the_same_items_from_another_thread() -> None:
    assert list(ahead(range(20))) == list(range(20))
    assert set(ahead(threading.get_ident() for _ in range(3))) != {threading.get_ident()}


def test_work_behind_is_done_in_order_and_waited_for() -> None:
    done: list[int] = []
    with Behind(done.append) as behind:
        for number in range(30):
            behind.take(number)
    assert done == list(range(30))


def test_an_error_of_work_behind_is_raised() -> None:
    with pytest.raises(ValueError, match="five"), Behind(failing) as behind:
        for number in range(6):
            behind.take(number)
