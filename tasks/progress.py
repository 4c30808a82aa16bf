"""A progress bar for rows."""

import contextlib
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def rows_bar(what: str) -> Iterator[Callable[[int], None]]:
    """A bar on standard error that counts rows; none where that is no terminal."""
    from tqdm.auto import tqdm

    with tqdm(unit=" rows", desc=f"  {what}", leave=False, disable=None) as bar:
        yield lambda count: (bar.update(count), None)[1]
