"""Generates docs/reference/json-output.md: what `--json` prints, from the records that the commands print."""

# ruff: noqa: E501 (a table cell must stay on one line)

import dataclasses
from collections.abc import Iterator
from typing import Any

from evertune import records
from evertune.audit import reproduce, retention
from evertune.audit.forgetting import forget
from evertune.backtesting import backtest
from evertune.compression import compress
from evertune.data.quarantine import release
from evertune.profiling import preview
from evertune.search import search

HEAD = """# JSON output

`--json` prints the outcome as one line of JSON on standard output. Nothing else goes there: progress and logs go to standard error.

```console
$ evertune run my-model.yaml --json 2> run.log | jq '{decision, version, accuracy: .metrics.test.accuracy}'
```

A command that fails prints no JSON. Its message is on standard error, and its [exit code](exit-codes.md) tells the kind of error.

`new`, `up`, `promote`, `approve`, `reject` and `rollback` have no `--json`. This page is generated from the code.

"""

# (record, meanings of the keys that the command adds to it, example, meanings of the record's keys)
Output = tuple[Any, dict[str, str], str, dict[str, str]]
OUTPUTS: dict[str, Output] = {  # by command
    "run": (
        records.Outcome,
        {},
        """{"decision": "unchanged", "reason": "no fresh rows and the same recipe as in the last run",
 "model": "support-intents", "version": 1, "champion_version": 1, "run_id": "4cb4406d9c3b47fc888bc16b55312e8f",
 "snapshot": {"version": 1, "rows": {"train": 1649, "validation": 251, "test": 483, "excluded": 0}, "fingerprint": "f805..."},
 "rows": {"new": 0, "accepted": 0, "refused": 0, "reasons": {}},
 "metrics": {"test": {"f1_macro": 0.8725, "accuracy": 0.8986}},
 "seconds": {}, "report": ".../report.html", "evidence": [], "training": {}, "leaked": 0, "waiting": false}""",
        {
            "decision": "`promoted`, `held`, `rejected` or `unchanged`",
            "reason": "one sentence for a person",
            "model": "registered name",
            "version": "registered version of the challenger, or null",
            "champion_version": "version of the champion after the run, or null",
            "run_id": "MLflow run, or null",
            "snapshot": "corpus version, rows by split, fingerprint",
            "rows": "rows that came: `new`, `accepted`, `refused`, and `reasons` with a count each",
            "metrics": "metrics by group of rows: `test`, `test_clean`, `fresh`, `history`",
            "seconds": "seconds by step",
            "report": "path of the report page, or null",
            "evidence": "every test of the gate: `test`, `on`, `rows`, `groups`, `estimate`, `low`, `high`, `p`, `threshold`, `passed`",
            "training": "`epochs`, `steps`, `seconds`, `loss`, `tokens`, `trained_share`",
            "leaked": "test rows in or near train rows; the gate leaves them out",
            "waiting": "true: it passed and waits for `evertune approve`",
        },
    ),
    "check": (
        preview.Preview,
        {"notify": "targets of `notify`: `target`, `kind`, `problem`"},
        """{"rows": 2423, "found": 2423, "accepted": 2387, "reasons": {"empty text": 8, "missing label": 8},
 "labels": {"order_status": 322, "refund_request": 255}, "splits": {"train": 1651, "validation": 260, "test": 476, "excluded": 0},
 "leaked": 0, "truncated": 0, "problems": [], "notes": ["..."], "notify": []}""",
        {
            "rows": "rows looked at",
            "found": "rows in the files that were opened",
            "accepted": "rows that pass the contract",
            "reasons": "refused rows by reason",
            "labels": "label and its accepted rows, most frequent first",
            "examples": "some rows: `input`, `target`, `tokens`",
            "splits": "rows by split, as a first run would assign them",
            "leaked": "test rows in or near train rows",
            "truncated": "rows longer than the model sees",
            "problems": "why a run would stop; then the exit code is 3",
            "notes": "hints, such as what the gate can detect",
        },
    ),
    "search": (
        search.Result,
        {"recipe": "path of the best recipe", "report": "path of the page"},
        """{"metric": "accuracy", "falls": false, "rows": {"train": 1649, "validation": 251}, "fields": {"training.epochs": "0.1 to 0.2"},
 "trials": [{"number": 0, "state": "complete", "value": 0.3187, "values": {"training.epochs": 0.1527}, "seconds": 9.9, "why": null},
  {"number": 1, "state": "complete", "value": 0.4263, "values": {"training.epochs": 0.1826}, "seconds": 11.9, "why": null}],
 "best": 1, "value": 0.4263, "values": {"training.epochs": 0.1826}, "importances": {}, "sentence": "...",
 "folder": ".../searches/ae26...", "run_id": "e3ad...", "recipe": "best.yaml", "report": ".../report/search.html"}""",
        {
            "folder": "folder of the search in the home",
            "run_id": "MLflow run of the search",
            "metric": "metric that was searched for",
            "falls": "true: lower is better",
            "rows": "rows by split that trials saw",
            "fields": "path of each open field and what was searched",
            "trials": "all trials: `number`, `state`, `value`, `values`, `seconds`, `why`",
            "best": "number of the best trial",
            "value": "its value on the validation rows",
            "values": "its value of each field",
            "importances": "share of the metric's changes by field",
            "sentence": "one sentence for a person",
        },
    ),
    "score": (
        records.Scores,
        {},
        """{"output": "out.csv", "rows": 1, "bad": 0, "version": 1}""",
        {
            "output": "path of the file",
            "rows": "all rows",
            "bad": "rows that got a null and a reason",
            "version": "registered version that predicted",
        },
    ),
    "compress": (
        compress.Result,
        {},
        """{"version": 2, "of": 1, "method": "int8", "verdict": "held", "reason": "...", "metric": "accuracy",
 "metrics": {"accuracy": [0.8986, 0.9068]}, "agreement": 0.9752, "drop": [-0.0083, 0.0040],
 "bytes": [91601817, 35546325], "milliseconds": [3261.9, 2471.3]}""",
        {
            "version": "version of the variant",
            "of": "version that it was made from",
            "method": "`int8`, `prune`, `onnx` or `onnx-int8`",
            "verdict": "`promoted` or `held`",
            "reason": "one sentence for a person",
            "metric": "the recipe's metric",
            "metrics": "metric and its values: original, variant",
            "agreement": "share of equal labels; null without labels",
            "drop": "loss of the metric, and the largest that it may be at the gate's confidence",
            "bytes": "size of the model: original, variant",
            "milliseconds": "time for 256 rows: original, variant",
        },
    ),
    "reproduce": (
        reproduce.Reproduction,
        {},
        """{"model": "support-intents", "version": 1, "verdict": "identical", "weights": 0.0, "tolerance": 0.01,
 "metrics": {"accuracy": 0.8986}, "registered": {"accuracy": 0.8986}, "rows": {"train": 1649, "validation": 251, "test": 483, "excluded": 0},
 "lost": {}, "forgotten": {}, "environment": {}, "missing": [], "seconds": 113.6}""",
        {
            "model": "registered name",
            "version": "version that was trained again",
            "verdict": "`identical`, `same` or `different`; `different` ends with exit code 4",
            "weights": "largest difference of a weight; null where shapes differ or a graph is compared",
            "tolerance": "largest difference of a metric for `same`",
            "metrics": "of the new model, on today's test rows of the snapshot",
            "registered": "of the registered model, on the same rows",
            "rows": "rows of the snapshot now, by split",
            "lost": "rows of it that are gone, by split",
            "forgotten": "rows of it that `evertune forget` removed, by split",
            "environment": "what is not as it was: name and [then, now]",
            "missing": "what of the record is gone or changed, in words",
            "seconds": "of the training",
        },
    ),
    "monitor": (
        records.Monitoring,
        {},
        """{"model": "support-intents", "version": 1, "drifted": false, "reason": "...", "p": null, "level": 0.05,
 "rows": {"reference": 461, "current": 1}, "source": "in.csv", "findings": [], "report": ".../monitor.html", "run_id": "89a5...",
 "triggers": [], "left_out": 0}""",
        {
            "model": "registered name",
            "version": "version of the champion",
            "drifted": "true where `p` is at most `level`",
            "reason": "one sentence for a person",
            "p": "p-value of all tests together; null with too few rows",
            "level": "largest p-value that counts as drift",
            "rows": "rows that were compared: `reference`, `current`",
            "source": "where the current rows come from",
            "findings": "each test: `test`, `adjusted` (its corrected p-value), `words` and more",
            "report": "path of the page, or null",
            "run_id": "MLflow run, or null",
            "triggers": "triggers that are met: `name`, `reason`, `starts`, `held`",
            "left_out": "rows that the champion knows, or that are near what it learned",
        },
    ),
    "backtest": (
        backtest.Result,
        {"report": "path of the page", "run_id": "MLflow run"},
        """{"every": "week", "metric": "accuracy", "first": 6, "windows": ["2026-01-05", "2026-01-12"], "steps": [],
 "summaries": [{"policy": "always", "metric": 0.2398, "below": 0.0, "low": 0.0, "high": 0.0, "windows": 2, "retrainings": 2,
  "promotions": 2, "wrong": 0, "seconds": 16.2, "lost": 0.0, "lost_low": 0.0, "lost_high": 0.0, "expected_wrong": 0.1,
  "proven_wrong": 0, "utility": 0.2398}],
 "recommended": "always", "sentence": "...", "left_out": {}, "folder": ".../backtests/89af...", "report": ".../backtest.html",
 "run_id": "..."}""",
        {
            "folder": "folder of the backtest in the home",
            "every": "length of a window",
            "metric": "the recipe's metric",
            "first": "window at whose end the first model was trained",
            "windows": "first day of each window",
            "steps": "each policy at the end of each window",
            "summaries": "each policy: `metric`, `below`, `low`, `high`, `retrainings`, `promotions`, `wrong`, `seconds`, "
            "`lost` with its interval, `expected_wrong`, `proven_wrong`, `utility`",
            "recommended": "the recommended policy",
            "sentence": "one sentence for a person",
            "left_out": "rows that are in no window, by reason",
        },
    ),
    "forget": (
        forget.Forgotten,
        {},
        """{"rows": {"corpus": 1, "quarantine": 0, "batches": 0}, "known": 0, "files": {"pages": 0, "tokens": 1},
 "versions": [{"version": 1, "aliases": ["champion"], "rows": {"test": 1}, "descends": []}],
 "outside": ["the sources themselves: ..."], "fresh_start": false, "dry_run": true}""",
        {
            "rows": "row versions removed, by place: `corpus`, `quarantine`, `batches`",
            "known": "names that had been forgotten before",
            "files": "files changed or removed, by kind",
            "versions": "registered versions that have seen the rows: `version`, `aliases`, `rows`, `descends`",
            "outside": "what is out of Evertune's reach",
            "fresh_start": "true: retrain from the base model",
            "dry_run": "true: nothing was removed",
        },
    ),
    "clean": (
        retention.Cleaning,
        {"removed": "true with `--yes`", "bytes": "bytes of all that goes"},
        """{"removed": false, "bytes": 0, "spare": [], "kept": {"1": "challenger, champion"}}""",
        {
            "spare": "what goes: `what`, `name`, `why`, `files`, `bytes`",
            "kept": "version that stays whole, and why",
        },
    ),
    "quarantine --release": (
        release.Release,
        {},
        """{"batch": null, "released": 0, "known": 0, "kept": 36, "reasons": {"empty text": 8, "missing label": 8, "unknown label": 4}}""",
        {
            "batch": "number of the batch that the rows came in as, or null",
            "released": "rows that are in the corpus now",
            "known": "of these, rows that were there already",
            "kept": "rows that stay in the quarantine",
            "reasons": "why these stay, with a count each",
        },
    ),
}

TAIL = """## `evertune history`

A list of the ledger's entries, oldest first. Every entry has `time`, `event` and `who`; the rest depends on the event.

```json
[{"time": "2026-11-30T19:12:00+00:00", "event": "decision", "who": "root", "verdict": "promoted", "version": 1, "champion": null,
  "reason": "...", "run_id": "4cb4...", "evidence": [{"test": "minimum", "metric": "accuracy", "rows": 483, "groups": 472,
  "low": 0.8699, "high": 0.925, "threshold": 0.8, "passed": true, "challenger": 0.8986}]},
 {"time": "2026-11-30T19:12:00+00:00", "event": "moved", "who": "root", "reason": "...", "from": null, "to": 1}]
```

```console
$ evertune history my-model.yaml --json | jq -r '.[] | select(.event == "moved") | [.time, .to, .who] | @tsv'
```

## `evertune trace`

| key | meaning |
|---|---|
| `model` | `name`, `version`, `registered`, `run_id`, `aliases`, `snapshot`, `fingerprint`, `bundle` (digest), `decision`, `code` (git revision), `variant`, `of`, `start`, `teacher`, `teacher_version` |
| `run` | `name`, `started`, `ended`, `who`, `metrics`, `rows` |
| `recipe` | the recipe as it was logged |
| `environment` | `python`, `platform`, `host`, `cpus`, `threads`, `arithmetic`, `libraries`, `base_model` (digest) |
| `rows` | `snapshot`, `fingerprint`, `then`, `unchanged`, `splits`, `forgotten`, `gone`, `descent`, `sources` (each with `source`, `rows`, `digest`) |
| `decisions` | the version's entries in the ledger, with their evidence |
| `moves` | alias moves from or to it: `time`, `event`, `who`, `reason`, `from`, `to` |

```console
$ evertune trace my-model.yaml --version 3 --json | jq '.recipe.training'
```

## `evertune report`

| key | meaning |
|---|---|
| `model`, `metric` | registered name, and the recipe's metric |
| `champion`, `aliases` | version of the champion, and of each alias |
| `decisions` | decisions and moves: `time`, `event`, `what`, `who`, `from`, `version`, `reason`, `run_id`, `report`, `challenger`, `low`, `high`, `rows` |
| `unchanged` | runs that found nothing new |
| `trainings` | `run_id`, `time`, `status`, `rows_corpus`, `rows_accepted`, `rows_refused`, `training_seconds` |
| `monitors`, `backtests` | looks for drift, and backtests |
| `report` | path of the page |

## `evertune quarantine`

A list of refused rows. Each has the recipe's columns by role, and:

| key | meaning |
|---|---|
| `row_version`, `row_key` | name of the row as it stands, and its id |
| `source`, `source_row` | where it came from; rows count from 0 |
| `reasons`, `kinds` | why it was refused, in words and by class |
| `batch`, `status` | number of its batch; `refused` or `stopped` |

```console
$ evertune quarantine my-model.yaml --json | jq -r '.[].kinds[]' | sort | uniq -c
```
"""


def page() -> str:
    """Return the page as Markdown.

    Raises:
        KeyError: a record has a key that this page does not explain.
    """
    return HEAD + "\n".join(render_outputs()) + TAIL


def render_outputs() -> Iterator[str]:
    """Yield a section for each command: an example and a table of the keys."""
    for command, (record, added_meanings, example, record_meanings) in OUTPUTS.items():
        meanings = {**record_meanings, **added_meanings}
        keys = [*(field.name for field in dataclasses.fields(record)), *added_meanings]
        yield f"## `evertune {command}`\n"
        if example:
            yield f"```json\n{example}\n```\n"
        yield "| key | meaning |\n|---|---|"
        for key in keys:
            meaning = meanings[key]
            yield f"| `{key}` | {meaning[0].upper() + meaning[1:]} |"
        yield ""
