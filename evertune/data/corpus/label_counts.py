"""Which labels the corpus knows, how many rows each has, and the newest moment of a row; grows with each batch."""

from collections import Counter

from evertune.data.corpus.read import COUNTS, LABELLED, known_labels, newest_moment
from evertune.data.corpus.staging import Log
from evertune.data.row_versions import own_columns
from evertune.objectives import label_roles
from evertune.runtime.files import read_json, write_json
from evertune.runtime.home import Home


def add(home: Home, begun: Log) -> None:
    """Note the labels of a batch and their rows; once, however often it is called."""
    import pyarrow as pa
    import pyarrow.compute as pc

    known, found, moments = known_labels(home), Counter[str](), [newest_moment(home)]
    targets = [name for name in own_columns(begun.names) if name in label_roles()]
    for part in begun.corpus(["split", "timestamp", *targets]):
        moments.append(pc.max(part["timestamp"]).as_py())
        used = part.filter(pc.is_in(part["split"], value_set=pa.array(LABELLED)))
        values = [pc.list_flatten(used[name]) if pa.types.is_list(used[name].type) else used[name] for name in targets]
        counts = [pc.value_counts(value) for value in values]
        found.update({one["values"]: one["counts"] for count in counts for one in count.to_pylist()})
    if new := sorted(set(found) - set(known)):
        write_json(home.model / "labels.json", [*known, *new])
    if (before := read_json(home.model / COUNTS) or {"batch": 0, "rows": {}})["batch"] < begun.number:
        rows, newest = dict(Counter(before["rows"]) + found), max((one for one in moments if one), default=None)
        facts = {"batch": begun.number, "rows": rows, "newest": newest and newest.isoformat()}
        write_json(home.model / COUNTS, facts)  # once a batch, whatever crashes
