"""The benchmark for a GPU: its whole table with tiny models on this machine, and what it says where there is no GPU."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as bench
from benchmarks import report as page
from benchmarks.gpu import page as gpu_page
from benchmarks.gpu import run as gpu
from benchmarks.training.loops import LOOPS
from benchmarks.training.rows import Prepared, Setting, encode_rows
from benchmarks.training.run import count_operations
from evertune.objectives import load_objective
from tests.helpers.model import LABELS, recipe, text_rows, tokenizer

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
CASES = {
    "encoder": gpu.Case("tickets", {"model_type": "bert", **SMALL}),
    "decoder": gpu.Case("tickets", {"model_type": "llama", "use_cache": False, **SMALL}, lora=True),
}
LITTLE = gpu.Effort(batches=(16, 32), rounds=1, steps=dict.fromkeys("abcde", 6), skipped=dict.fromkeys("abcde", 1))


def tickets(model: Path) -> Prepared:
    setting = Setting("tiny.yaml", None, 1, (1e-3, 1e-3), 4, 64, "accuracy", None)
    objective = load_objective("text-classification")
    options = recipe(model).objective
    rows = [(row["text"], row["label"]) for row in text_rows(40)]
    made = encode_rows(rows, objective, tokenizer(), options, {label: place for place, label in enumerate(LABELS)})
    return Prepared(setting, objective, options, tokenizer(), "", LABELS, made, made)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_every_loop_trains_a_model_from_its_configuration_and_each_number_is_kept_at_once(
    name: str, tmp_path: Path
) -> None:
    data = gpu.with_random_weights(tickets(tmp_path), CASES[name], tmp_path / "base")
    parts = list(gpu.measure_table(data, LITTLE, LOOPS))
    assert [list(part["loops"]) for part in parts] == [list("abcd"[:count]) for count in (1, 2, 3, 4)]
    for one in parts[-1]["loops"].values():
        assert one["rows"] * parts[-1]["mean tokens of a row"] == pytest.approx(one["tokens"])
        assert 0 < one["share of bf16 peak"] < 1 and one["peak memory, MB"] > 10
    assert parts[-1]["rows a step"] == int(max(parts[-1]["search"], key=parts[-1]["search"].get))
    machine = {"gpu": "GPU", "cores": 2, "cpu": "CPU", "python": "3", "torch": "2", "revision": "abc"}
    lines = list(gpu_page.render_section({"machine": machine, "cases": {name: parts[-1]}}))
    assert sum(line.startswith(f"| {name} | (") for line in lines) == 4


def test_operations_are_counted_for_what_learns_and_for_the_tokens_that_are_seen(tmp_path: Path) -> None:
    encoder, decoder = (
        gpu.with_random_weights(tickets(tmp_path), case, tmp_path / name).build_model(0) for name, case in CASES.items()
    )
    weights = 2 * (4 * 32 * 32 + 2 * 32 * 64)
    length = 10
    assert count_operations(encoder)(length) == 3 * (2 * weights * length + 2 * 4 * 32 * length * length)
    fixed = 2 * (4 * 32 * 32 + 3 * 32 * 64)
    learning = 2 * 8 * (4 * 64 + 3 * 96)
    attended = 3 * 2 * 4 * 32 * length * length / 2
    assert count_operations(decoder)(length) == (4 * fixed + 6 * learning) * length + attended


def test_without_a_gpu_it_says_so_in_one_line_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    results: dict[str, Any] = {}
    for module_of, name in ((bench, "RESULTS"), (page, "PAGE"), (gpu, "RESULTS")):
        monkeypatch.setattr(module_of, name, tmp_path / name)
    (tmp_path / "RESULTS").write_text(json.dumps(results))
    bench.main(["gpu"])
    assert capsys.readouterr().err == "gpu: this machine has no CUDA device; nothing was measured or written\n"
    assert json.loads((tmp_path / "RESULTS").read_text()) == results and not (tmp_path / "PAGE").exists()
