"""A progress bar for rows."""

import contextlib
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def show_progress(title: str) -> Iterator[Callable[[int], None]]:
    """Show a bar that counts rows on standard error, if that is a terminal; yield the function that advances it."""
    from tqdm.auto import tqdm

    with tqdm(unit=" rows", desc=f"  {title}", leave=False, disable=None) as bar:

        def advance(count: int) -> None:
            bar.update(count)

        yield advance
