"""The opponent of the benchmark of scoring: `transformers.pipeline` over a JSON Lines file, as its guide shows it.

`python -m benchmarks.scoring_pipeline BUNDLE INPUT OUTPUT DTYPE BATCH_SIZE` runs it in a process of its own.
"""

import json
import sys
from pathlib import Path
from typing import Any


def score_with_pipeline(bundle: Path, source: Path, output: Path, dtype: str, batch_size: int) -> None:
    """Write each row of the file with the pipeline's answer; texts go through it in batches of `batch_size`."""
    import torch
    from transformers import AutoTokenizer, logging, pipeline

    from evertune.objectives import load_objective

    logging.set_verbosity(logging.CRITICAL)  # its advice on every call, and that it does not know our pooled head
    kind = json.loads((bundle / "evertune.json").read_text(encoding="utf-8"))["objective"]
    tokenizer = AutoTokenizer.from_pretrained(bundle / "model")
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    model = load_objective(kind).load_model(bundle / "model").to(getattr(torch, dtype))
    pipe = pipeline(kind, model=model, tokenizer=tokenizer)
    column, options = ("text", {}) if kind == "text-classification" else ("tokens", {"is_split_into_words": True})
    with source.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    answers = pipe([row[column] for row in rows], batch_size=batch_size, **options)
    with output.open("w", encoding="utf-8") as file:
        for row, answer in zip(rows, answers, strict=True):
            file.write(json.dumps({**row, "prediction": answer}, default=_to_plain) + "\n")


def _to_plain(value: Any) -> Any:
    return value.item()  # its scores are numpy's


if __name__ == "__main__":
    score_with_pipeline(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4], int(sys.argv[5]))
