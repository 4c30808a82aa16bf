"""What the sources give: written down as it comes, row by row known or fresh in the end."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.config import Recipe
from evertune.data import label_names as relabel
from evertune.data.columns.chunks import chosen
from evertune.data.columns.components import repeated, within
from evertune.data.columns.strings import hashes, list_digest
from evertune.data.corpus import delta_tables, tombstones
from evertune.data.corpus.parquet_chunks import PART, PartsFile, rows_of
from evertune.data.corpus.reverted_rows import place, with_returns
from evertune.data.row_versions import as_numbers, as_versions, has_id, in_order, occurrences, renumbered, versioned
from evertune.objectives import module
from evertune.runtime.home import Home
from evertune.runtime.threads import Behind, mapped

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from evertune.data.sources.read import Piece


class Reading:
    """Rows on their way from the sources to a staged file.

    Args:
        sources: fingerprints of what was read; splits: the split that each source gives its rows.
        rows: how many were read; forgotten: others, which are never taken in again.
        versions: of the rows, as `rows.as_numbers` gives them.
    """

    def __init__(self, recipe: Recipe, home: Home) -> None:
        import numpy as np

        self.recipe, self.home = recipe, home
        self.sources: dict[str, str] = {}
        self.splits: dict[str, str | None] = {}
        self.rows = self.forgotten = 0
        self.versions: Any = np.zeros((0, 2), dtype=np.uint64)
        self._pieces: Any = np.zeros(0, dtype=np.int32)
        self._file = PartsFile(home.batches)

    def take(self, pieces: "Iterable[Piece]") -> None:
        """Write down the rows of all pieces, each with its version.

        Raises:
            DataError: a column is missing or cannot be brought into the schema, or the disk is full.
        """
        import numpy as np
        import pyarrow as pa

        versions, numbers, stones = [self.versions], [self._pieces], tombstones.load(self.home)
        with Behind(self._file.add) as writing:
            for number, read in mapped(lambda one: (one[0], versioned(one[1], self.recipe)), self._parts(pieces)):
                part = stones.without(read)
                self.forgotten += len(read) - len(part)
                position = pa.array(np.arange(self.rows, self.rows + len(part)))
                writing.take(part.append_column("position", position))
                self.rows += len(part)
                versions.append(as_numbers(part["row_version"]))
                numbers.append(np.full(len(part), number, dtype=np.int32))
        self.versions, self._pieces = np.concatenate(versions), np.concatenate(numbers)

    def fresh(self) -> PartsFile | None:
        """The rows whose version is new or comes back, each version once, numbered by position; None where none is."""
        import numpy as np

        if not self.rows:
            return None
        places, changed = self._renumbered()
        if changed is not None:
            self.versions[places] = as_numbers(changed["row_version"])
        keep = ~_known(self.versions, self.home.corpus, self.home.quarantine)
        keep[_again(self.versions)] = False
        keep &= ~self._under_other_names(keep, places, changed)
        self.versions = self.versions if keep.all() else self.versions[keep]
        if not len(self.versions):
            return None
        if self._file.closed or not keep.all():  # a closed one was looked into, and takes no notes any more
            self._file.close()
            self._file, old = self._rewritten(np.flatnonzero(keep), places, changed), self._file
            old.drop()
        return self._file

    def fingerprint(self) -> str:
        """Of the versions of the fresh rows, whatever their order."""
        import numpy as np

        order = in_order(self.versions)
        return list_digest(as_versions(self.versions[some]) for some in np.split(order, range(PART, len(order), PART)))

    def drop(self) -> None:
        """What was written down is not needed any more."""
        self._file.drop()

    def _parts(self, pieces: "Iterable[Piece]") -> "Iterator[tuple[int, pa.Table]]":
        for number, piece in enumerate(pieces):
            for table in piece.tables:
                if len(table):
                    self.splits[place(piece.uri)] = table["given_split"][0].as_py()
                for start in range(0, len(table), PART):
                    yield number, table.slice(start, PART)
            self.sources[piece.uri] = piece.fingerprint

    def _renumbered(self) -> "tuple[Any, pa.Table | None]":
        """Rows that are not the first of their content, or come back, and what they are then."""
        import numpy as np
        import pyarrow as pa

        if not has_id(self.recipe):
            places, numbers = occurrences(self.versions, self._pieces)
        else:
            places, numbers = self._of_changed_keys(), None
        if not len(places):
            return places, None
        self._file.close()
        read = rows_of(self._file.path)
        names = [name for name in self._names() if name != "position"]
        some = pa.concat_tables(chosen(read, names, places))
        if numbers is not None:
            return places, renumbered(some, np.arange(len(some)), numbers, self.recipe)
        return places, with_returns(some, self.recipe, self.home)

    def _of_changed_keys(self) -> "np.ndarray[Any, Any]":
        """Rows whose key has had several versions: only such a version can come back."""
        import numpy as np

        parts = delta_tables.rows_of(self.home.corpus)(["row_key"])
        known = np.concatenate([np.zeros(0, np.uint64), *(hashes(part["row_key"].combine_chunks()) for part in parts)])
        changed = known[repeated(known)]
        if not len(changed):
            return np.zeros(0, dtype=np.int64)
        self._file.close()
        read = rows_of(self._file.path)(["row_key"])
        return np.flatnonzero(
            np.concatenate([within(hashes(part["row_key"].combine_chunks()), changed) for part in read])
        )

    def _names(self) -> list[str]:
        import pyarrow.parquet as pq

        return list(pq.read_schema(self._file.path).names)

    def _rewritten(self, keep: Any, places: Any, changed: "pa.Table | None") -> PartsFile:
        """The kept rows, changed ones as they are now, numbered anew."""
        import numpy as np
        import pyarrow as pa

        file, start = PartsFile(self.home.batches), 0
        for part in self._chosen(keep, places, changed):
            position = pa.array(np.arange(start, start + len(part)))
            start += len(part)
            file.add(part.append_column("position", position))
        return file

    def _chosen(self, keep: Any, places: Any, changed: "pa.Table | None") -> "Iterator[pa.Table]":
        """The kept rows without their positions, changed ones as they are now."""
        import numpy as np
        import pyarrow as pa

        start = 0
        for part in rows_of(self._file.path)(self._names()):
            if changed is not None:
                part = _with(part, changed, places, start)
            low, high = np.searchsorted(keep, [start, start + len(part)])
            start += len(part)
            yield part.drop_columns("position").take(pa.array(keep[low:high] - start + len(part)))

    def _under_other_names(self, keep: Any, places: Any, changed: "pa.Table | None") -> "np.ndarray[Any, Any]":
        """Which of the kept rows the corpus has under another name of their label, old or new.

        With an id they are versions of their own, as corrections are. A refused row may be let in by its new name.
        """
        import numpy as np

        none, renamed = np.zeros(len(keep), dtype=bool), self.recipe.contract.label.rename
        if not renamed or has_id(self.recipe) or not keep.any():
            return none
        self._file.close()
        found: list[list[Any]] = []
        for part in self._chosen(np.flatnonzero(keep), places, changed):
            found.append([as_numbers(other["row_version"]) for other in self._under_each_name(part, renamed)])
        versions = np.concatenate([other for part in zip(*found, strict=True) for other in part])
        none[keep] = _known(versions, self.home.corpus).reshape(len(found[0]), -1).any(axis=0)
        return none

    def _under_each_name(self, part: "pa.Table", renamed: Mapping[str, str]) -> "Iterator[pa.Table]":
        target = module(self.recipe.objective.type).TARGET
        for other in relabel.other_names(part[target].combine_chunks(), renamed):
            yield versioned(part.set_column(part.column_names.index(target), target, other), self.recipe)


def _with(part: "pa.Table", changed: "pa.Table", places: Any, start: int) -> "pa.Table":
    """A part in which the changed rows stand in their places."""
    import numpy as np
    import pyarrow as pa

    low, high = np.searchsorted(places, [start, start + len(part)])
    at = np.arange(len(part))
    at[places[low:high] - start] = len(part) + np.arange(high - low)
    others = changed.slice(low, high - low)
    both = pa.concat_tables([part.drop_columns("position"), others.select(part.column_names[:-1])])
    return both.take(pa.array(at)).append_column("position", part["position"])


def _known(versions: "np.ndarray[Any, Any]", *tables: Path) -> "np.ndarray[Any, Any]":
    """Which versions one of the tables has."""
    import numpy as np

    found, order, upper = np.zeros(len(versions), dtype=bool), None, None
    for path in tables:
        for part in delta_tables.rows_of(path)(["row_version"]):
            if order is None or upper is None:
                order = np.argsort(versions[:, 0])
                upper = versions[order, 0]
            known = as_numbers(part["row_version"])
            low, high = (np.searchsorted(upper, known[:, 0], side=side) for side in ("left", "right"))
            counts = high - low
            row = np.repeat(np.arange(len(known)), counts)
            at = order[np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts) + low[row]]
            found[at[versions[at, 1] == known[row, 1]]] = True
    return found


def _again(versions: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Rows whose version stands further up too."""
    import numpy as np

    some = np.sort(repeated(versions[:, 0]))
    order = some[np.lexsort((some, versions[some, 1], versions[some, 0]))]
    same = (versions[order[1:]] == versions[order[:-1]]).all(axis=1)
    return np.asarray(order[1:][same])
