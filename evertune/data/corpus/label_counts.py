"""Which labels the corpus knows, how many rows each has, and the newest moment of a row; grows with each batch."""

from collections import Counter

from evertune.data.corpus.read import COUNTS, LABELLED, known_labels, newest_moment
from evertune.data.corpus.staging import BatchLog
from evertune.data.row_versions import list_own_columns
from evertune.objectives import label_roles
from evertune.runtime.files import read_json, write_json
from evertune.runtime.home import Home


def add_label_counts(home: Home, log: BatchLog) -> None:
    """Note the labels of a batch and their rows; once, however often it is called."""
    import pyarrow as pa
    import pyarrow.compute as pc

    labels = known_labels(home)
    batch_counts = Counter[str]()
    moments = [newest_moment(home)]
    targets = [name for name in list_own_columns(log.names) if name in label_roles()]
    for chunk in log.corpus(["split", "timestamp", *targets]):
        moments.append(pc.max(chunk["timestamp"]).as_py())
        labelled = chunk.filter(pc.is_in(chunk["split"], value_set=pa.array(LABELLED)))
        values = [
            pc.list_flatten(labelled[name]) if pa.types.is_list(labelled[name].type) else labelled[name]
            for name in targets
        ]
        value_counts = [pc.value_counts(value) for value in values]
        batch_counts.update(
            {entry["values"]: entry["counts"] for column_counts in value_counts for entry in column_counts.to_pylist()}
        )
    if new_labels := sorted(set(batch_counts) - set(labels)):
        write_json(home.model / "labels.json", [*labels, *new_labels])
    if (earlier := read_json(home.model / COUNTS) or {"batch": 0, "rows": {}})["batch"] < log.number:
        rows = dict(Counter(earlier["rows"]) + batch_counts)
        newest = max((moment for moment in moments if moment), default=None)
        facts = {"batch": log.number, "rows": rows, "newest": newest and newest.isoformat()}
        write_json(home.model / COUNTS, facts)  # once a batch, whatever crashes
