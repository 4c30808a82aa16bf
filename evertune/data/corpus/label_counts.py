"""Update the files of the corpus' labels, their rows and the newest timestamp with each batch."""

from collections import Counter

from evertune.data.corpus.read import COUNTS, LABELLED, known_labels, newest_moment
from evertune.data.corpus.staging import BatchLog
from evertune.data.row_versions import list_own_columns
from evertune.objectives import label_roles
from evertune.runtime.files import read_json, write_json
from evertune.runtime.home import Home


def add_label_counts(home: Home, log: BatchLog) -> None:
    """Add the labels of a batch, their rows and its newest timestamp; once, however often it is called."""
    import pyarrow as pa
    import pyarrow.compute as pc

    labels = known_labels(home)
    batch_counts = Counter[str]()
    moments = [newest_moment(home)]
    targets = [name for name in list_own_columns(log.names) if name in label_roles()]
    for chunk in log.corpus(["split", "timestamp", *targets]):
        moments.append(pc.max(chunk["timestamp"]).as_py())
        labelled = chunk.filter(pc.is_in(chunk["split"], value_set=pa.array(LABELLED)))
        for name in targets:
            column = labelled[name]
            values = pc.list_flatten(column) if pa.types.is_list(column.type) else column
            batch_counts.update({entry["values"]: entry["counts"] for entry in pc.value_counts(values).to_pylist()})

    new_labels = sorted(set(batch_counts) - set(labels))
    if new_labels:
        write_json(home.model / "labels.json", [*labels, *new_labels])

    stored = read_json(home.model / COUNTS) or {"batch": 0, "rows": {}}
    if stored["batch"] < log.number:  # once a batch, whatever crashes
        newest = max((moment for moment in moments if moment), default=None)
        counts = {
            "batch": log.number,
            "rows": dict(Counter(stored["rows"]) + batch_counts),
            "newest": newest and newest.isoformat(),
        }
        write_json(home.model / COUNTS, counts)
