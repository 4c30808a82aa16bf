"""`pytest --cpu-times=FILE`: what each test costs the processor, with all processes that it starts.

Wall times say little on a machine that others use. A line of FILE is `seconds <tab> test`; `python -m
tests.helpers.cpu_times FILE` adds them up by file. What a session-wide server costs is counted where it is asked:
the times of the processes that still live are read before and after each test.
"""

import contextlib
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

IMPORTS = "imports and collection"


def read_cpu_seconds() -> float:
    """Of this process, of those that it has waited for, and of those below it that live."""
    total = sum(os.times()[:4])
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            total += sum(process.cpu_times()[:4])
    return total


class CpuTimes:
    """Writes the seconds of each test when it has ended."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last = 0.0

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._write(IMPORTS)  # between two tests: next to nothing, but for the first one
        result = yield
        self._write(item.nodeid)
        return result  # type: ignore[return-value]

    def _write(self, name: str) -> None:
        now = read_cpu_seconds()
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{now - self._last:.3f}\t{name}\n")
        self._last = now


def sum_by_file(path: Path) -> Counter[str]:
    seconds: Counter[str] = Counter()
    for line in path.read_text(encoding="utf-8").splitlines():
        cost, _, name = line.partition("\t")
        seconds[name.partition("::")[0]] += float(cost)
    return seconds


def main() -> None:
    """Print the files, the dearest first, and the sum."""
    seconds = sum_by_file(Path(sys.argv[1]))
    for name, cost in seconds.most_common():
        print(f"{cost:8.1f}  {name}")  # noqa: T201
    print(f"{seconds.total():8.1f}  in all")  # noqa: T201


if __name__ == "__main__":
    main()
