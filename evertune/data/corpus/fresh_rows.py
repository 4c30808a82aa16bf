"""Collect the rows of the sources in a scratch file, then keep those that are neither known nor repeated."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from evertune.config import Recipe
from evertune.data import label_names
from evertune.data.columns.chunks import select_rows
from evertune.data.columns.components import find_repeated, mask_members
from evertune.data.columns.strings import digest_list, hash_strings
from evertune.data.corpus import delta_tables, tombstones
from evertune.data.corpus.parquet_chunks import PART, ChunkFile, rows_of
from evertune.data.corpus.reverted_rows import number_returning_rows, strip_table_version
from evertune.data.row_versions import (
    add_versions,
    find_occurrences,
    has_id,
    numbers_to_versions,
    order_versions,
    renumber_rows,
    versions_to_numbers,
)
from evertune.objectives import load_objective
from evertune.runtime.context import RunContext
from evertune.runtime.home import Home
from evertune.runtime.threads import BackgroundWorker, map_in_threads

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from evertune.data.sources.read import Piece


class FreshRows:
    """Rows on their way from the sources to a staged file.

    Attributes:
        sources: fingerprint of each source that was read, by URI.
        splits: the split that each source gives its rows, by URI.
        rows: number of rows that were read.
        forgotten: number of rows that were skipped because they were forgotten.
        versions: of the rows, (rows, 2), see `row_versions.versions_to_numbers`.
    """

    def __init__(self, recipe: Recipe, home: Home) -> None:
        import numpy as np

        self.recipe = recipe
        self.home = home
        self.sources: dict[str, str] = {}
        self.splits: dict[str, str | None] = {}
        self.rows = 0
        self.forgotten = 0
        self.versions: np.ndarray = np.zeros((0, 2), dtype=np.uint64)
        self._piece_numbers: np.ndarray = np.zeros(0, dtype=np.int32)
        self._file = ChunkFile(home.batches)

    def add_pieces(self, pieces: "Iterable[Piece]") -> None:
        """Write the rows of all pieces to the scratch file, each with its version.

        Raises:
            DataError: a column is missing or cannot be brought into the schema, or the disk is full.
        """
        import numpy as np
        import pyarrow as pa

        versions = [self.versions]
        piece_numbers = [self._piece_numbers]
        known_tombstones = tombstones.load_tombstones(self.home)
        with BackgroundWorker(self._file.add_rows) as writer:
            for piece_number, table in map_in_threads(self._version_chunk, self._split_pieces(pieces)):
                chunk = known_tombstones.drop_forgotten(table)
                self.forgotten += len(table) - len(chunk)
                positions = pa.array(np.arange(self.rows, self.rows + len(chunk)))
                writer.submit_item(chunk.append_column("position", positions))
                self.rows += len(chunk)
                versions.append(versions_to_numbers(chunk["row_version"]))
                piece_numbers.append(np.full(len(chunk), piece_number, dtype=np.int32))
        self.versions = np.concatenate(versions)
        self._piece_numbers = np.concatenate(piece_numbers)

    def keep_fresh(self) -> ChunkFile | None:
        """Return the rows whose version is new or returns, each version once, numbered by position; None if none is."""
        import numpy as np

        if not self.rows:
            return None
        changed_indices, changed_rows = self._renumber_rows()
        if changed_rows is not None:
            self.versions[changed_indices] = versions_to_numbers(changed_rows["row_version"])
        is_fresh = ~_find_known_versions(self.versions, self.home.corpus, self.home.quarantine)
        is_fresh[_find_repeats(self.versions)] = False
        is_fresh &= ~self._find_renamed_rows(is_fresh, changed_indices, changed_rows)
        self.versions = self.versions if is_fresh.all() else self.versions[is_fresh]
        if not len(self.versions):
            return None
        if self._file.is_closed or not is_fresh.all():  # a closed file was read from and takes no more notes
            self._file.close()
            old_file = self._file
            self._file = self._rewrite_file(np.flatnonzero(is_fresh), changed_indices, changed_rows)
            old_file.drop_file()
        return self._file

    def compute_fingerprint(self) -> str:
        """Return a digest of the versions of the fresh rows that does not depend on their order."""
        import numpy as np

        order = order_versions(self.versions)
        return digest_list(
            numbers_to_versions(self.versions[indices]) for indices in np.split(order, range(PART, len(order), PART))
        )

    def drop_file(self) -> None:
        """Delete the scratch file."""
        self._file.drop_file()

    def _version_chunk(self, numbered_chunk: "tuple[int, pa.Table]") -> "tuple[int, pa.Table]":
        piece_number, table = numbered_chunk
        return piece_number, add_versions(table, self.recipe)

    def _split_pieces(self, pieces: "Iterable[Piece]") -> "Iterator[tuple[int, pa.Table]]":
        """Yield the rows in chunks with the number of their piece, noting the sources' fingerprints and splits."""
        for piece_number, piece in enumerate(pieces):
            for table in piece.tables:
                if len(table):
                    self.splits[strip_table_version(piece.uri)] = table["given_split"][0].as_py()
                for start in range(0, len(table), PART):
                    yield piece_number, table.slice(start, PART)
            self.sources[piece.uri] = piece.fingerprint

    def _renumber_rows(self) -> "tuple[np.ndarray, pa.Table | None]":
        """Return the indices of rows that repeat their content or return, and these rows with their new versions."""
        import numpy as np
        import pyarrow as pa

        if not has_id(self.recipe):
            changed_indices, numbers = find_occurrences(self.versions, self._piece_numbers)
        else:
            changed_indices = self._find_changed_keys()
            numbers = None
        if not len(changed_indices):
            return changed_indices, None
        self._file.close()
        read_written = rows_of(self._file.path)
        names = [name for name in self._list_columns() if name != "position"]
        selected = pa.concat_tables(select_rows(read_written, names, changed_indices))
        if numbers is not None:
            return changed_indices, renumber_rows(selected, np.arange(len(selected)), numbers, self.recipe)
        return changed_indices, number_returning_rows(selected, RunContext(self.recipe, self.home))

    def _find_changed_keys(self) -> "np.ndarray":
        """Return the indices of rows whose key has had several versions: only such a version can return."""
        import numpy as np

        corpus_chunks = delta_tables.rows_of(self.home.corpus)(["row_key"])
        key_hashes = np.concatenate(
            [np.zeros(0, np.uint64), *(hash_strings(chunk["row_key"].combine_chunks()) for chunk in corpus_chunks)]
        )
        changed_keys = key_hashes[find_repeated(key_hashes)]
        if not len(changed_keys):
            return np.zeros(0, dtype=np.int64)
        self._file.close()
        masks = [
            mask_members(hash_strings(chunk["row_key"].combine_chunks()), changed_keys)
            for chunk in rows_of(self._file.path)(["row_key"])
        ]
        return np.flatnonzero(np.concatenate(masks))

    def _list_columns(self) -> list[str]:
        import pyarrow.parquet as pq

        return list(pq.read_schema(self._file.path).names)

    def _rewrite_file(
        self, kept_indices: "np.ndarray", changed_indices: "np.ndarray", changed_rows: "pa.Table | None"
    ) -> ChunkFile:
        """Write the kept rows to another file, with their current content and new positions."""
        import numpy as np
        import pyarrow as pa

        file = ChunkFile(self.home.batches)
        start = 0
        for chunk in self._select_kept(kept_indices, changed_indices, changed_rows):
            positions = pa.array(np.arange(start, start + len(chunk)))
            start += len(chunk)
            file.add_rows(chunk.append_column("position", positions))
        return file

    def _select_kept(
        self, kept_indices: "np.ndarray", changed_indices: "np.ndarray", changed_rows: "pa.Table | None"
    ) -> "Iterator[pa.Table]":
        """Yield the kept rows with their current content, without positions."""
        import numpy as np
        import pyarrow as pa

        start = 0
        for chunk in rows_of(self._file.path)(self._list_columns()):
            if changed_rows is not None:
                chunk = _replace_changed(chunk, changed_rows, changed_indices, start)
            low, high = np.searchsorted(kept_indices, [start, start + len(chunk)])
            start += len(chunk)
            yield chunk.drop_columns("position").take(pa.array(kept_indices[low:high] - start + len(chunk)))

    def _find_renamed_rows(
        self, is_kept: "np.ndarray", changed_indices: "np.ndarray", changed_rows: "pa.Table | None"
    ) -> "np.ndarray":
        """Return a mask of the kept rows that the corpus has under another name of their label, old or new.

        With an id they are versions of their own, as corrections are. The quarantine is not searched: the new name may
        make a refused row acceptable.
        """
        import numpy as np

        is_renamed = np.zeros(len(is_kept), dtype=bool)
        label_renames = self.recipe.contract.label.rename
        if not label_renames or has_id(self.recipe) or not is_kept.any():
            return is_renamed
        self._file.close()
        chunk_versions: list[np.ndarray] = []  # (variants, rows, 2) each
        for chunk in self._select_kept(np.flatnonzero(is_kept), changed_indices, changed_rows):
            variants = self._iterate_other_names(chunk, label_renames)
            chunk_versions.append(np.stack([versions_to_numbers(variant["row_version"]) for variant in variants]))
        versions = np.concatenate(chunk_versions, axis=1)
        is_known = _find_known_versions(versions.reshape(-1, 2), self.home.corpus)
        is_renamed[is_kept] = is_known.reshape(len(versions), -1).any(axis=0)
        return is_renamed

    def _iterate_other_names(self, chunk: "pa.Table", label_renames: Mapping[str, str]) -> "Iterator[pa.Table]":
        """Yield the rows with their versions under each other name of their labels."""
        target = load_objective(self.recipe.objective.type).TARGET
        for labels in label_names.list_name_variants(chunk[target].combine_chunks(), label_renames):
            yield add_versions(chunk.set_column(chunk.column_names.index(target), target, labels), self.recipe)


def _replace_changed(
    chunk: "pa.Table", changed_rows: "pa.Table", changed_indices: "np.ndarray", start: int
) -> "pa.Table":
    """Return the chunk with the changed rows in place of the original ones.

    Args:
        start: index of the chunk's first row.
    """
    import numpy as np
    import pyarrow as pa

    low, high = np.searchsorted(changed_indices, [start, start + len(chunk)])
    indices = np.arange(len(chunk))
    indices[changed_indices[low:high] - start] = len(chunk) + np.arange(high - low)
    replacements = changed_rows.slice(low, high - low)
    combined = pa.concat_tables([chunk.drop_columns("position"), replacements.select(chunk.column_names[:-1])])
    return combined.take(pa.array(indices)).append_column("position", chunk["position"])


def _find_known_versions(versions: "np.ndarray", *tables: Path) -> "np.ndarray":
    """Return a mask of the versions that one of the tables has."""
    import numpy as np

    is_known = np.zeros(len(versions), dtype=bool)
    order = None
    upper = None
    for path in tables:
        for chunk in delta_tables.rows_of(path)(["row_version"]):
            if order is None or upper is None:
                order = np.argsort(versions[:, 0])
                upper = versions[order, 0]
            stored = versions_to_numbers(chunk["row_version"])
            low, high = (np.searchsorted(upper, stored[:, 0], side=side) for side in ("left", "right"))
            counts = high - low
            stored_indices = np.repeat(np.arange(len(stored)), counts)
            candidates = order[
                np.arange(len(stored_indices)) - np.repeat(np.cumsum(counts) - counts, counts) + low[stored_indices]
            ]
            is_known[candidates[versions[candidates, 1] == stored[stored_indices, 1]]] = True
    return is_known


def _find_repeats(versions: "np.ndarray") -> "np.ndarray":
    """Return the indices of rows whose version an earlier row has too."""
    import numpy as np

    indices = np.sort(find_repeated(versions[:, 0]))
    order = indices[np.lexsort((indices, versions[indices, 1], versions[indices, 0]))]
    is_same = (versions[order[1:]] == versions[order[:-1]]).all(axis=1)
    return np.asarray(order[1:][is_same])
