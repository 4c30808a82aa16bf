"""What MLflow keeps of a run, in plain values."""

import json
from datetime import UTC, datetime
from typing import Any


def describe_run(run: Any | None) -> dict[str, Any]:
    """What a reader wants to know of a run; nothing of none."""
    if run is None:
        return {**dict.fromkeys(("name", "started", "ended", "who")), "metrics": {}, "rows": {}}
    return {
        "name": run.info.run_name,
        "started": format_time(run.info.start_time),
        "ended": format_time(run.info.end_time),
        "who": run.data.tags.get("mlflow.user"),
        "metrics": dict(run.data.metrics),
        "rows": _read_rows(run),
    }


def _read_rows(run: Any) -> dict[str, int]:
    """Rows of the run's snapshot by split, as they were when it began; none where others made the run."""
    profiles = [entry.dataset.profile for entry in run.inputs.dataset_inputs]
    return dict(json.loads(profiles[0]).get("rows", {})) if profiles and profiles[0] else {}


def format_time(milliseconds: int | None) -> str | None:
    """Milliseconds since 1970 as ISO time in UTC."""
    if milliseconds is None:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")
