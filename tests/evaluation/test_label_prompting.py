"""A decoder is asked for the label: what follows the prompt is scored as if each label stood there alone."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from evertune.evaluation import label_prompting as prompted
from evertune.evaluation import zero_shot
from evertune.serving.portable import base_files
from tests.helpers.gguf import write_gguf
from tests.helpers.model import decoding_tokenizer, recipe

WORDS = ["very bad", "good", "so so"]
TEXTS = ["the film was fine", "no", "it was a long day, and nothing at all came of it"]


def gpt2(folder: Path) -> str:
    """Places of its own for tokens, and a chat template."""
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = decoding_tokenizer()
    place = folder / "gpt2"
    torch.manual_seed(0)
    size = {"vocab_size": len(tokenizer), "n_positions": 512, "n_embd": 16, "n_layer": 2, "n_head": 2}
    GPT2LMHeadModel(GPT2Config(**size, initializer_range=0.5)).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return str(place)


def llama(folder: Path) -> str:
    """Rotary positions, no template."""
    return base_files.unpack_gguf(str(write_gguf(folder / "tiny.gguf")), folder / "base_models")


def alone(place: str, text: str) -> Any:
    """The mean log-likelihood of each label, in a pass of its own."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(place)
    model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32).eval()
    prompt, labels = prompted._build_row(tokenizer, text, WORDS)
    found = []
    for label in labels:
        with torch.no_grad():
            told = model(torch.tensor([prompt + label])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        found.append(float(told.gather(-1, torch.tensor(label)[:, None]).mean()))
    return torch.tensor(found)


@pytest.mark.parametrize("make", [gpt2, llama])
def test_labels_beside_each_other_are_scored_as_alone_and_less_what_they_are_without_the_text(
    tmp_path: Path, make: Any
) -> None:
    place = make(tmp_path)
    assert prompted.is_decoder(place)
    found = torch.from_numpy(prompted.score_labels(place, TEXTS, WORDS, 64, "fp32"))
    wanted = torch.stack([alone(place, text) for text in TEXTS]) - alone(place, "")
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
    assert float(found.std(0).min()) > 1e-4


def test_long_texts_are_cut_in_their_middle_and_labels_are_named_where_they_are_few() -> None:
    tokenizer = decoding_tokenizer()
    assert prompted._truncate_text(tokenizer, "a" * 20 + "b" * 40, 20) == "a" * 10 + " ... " + "b" * 10
    few, many = (tokenizer.decode(prompted._build_row(tokenizer, "hm", WORDS * times)[0]) for times in (1, 20))
    assert "very bad, good" in few and "very bad" not in many and "hm" in many


def test_the_report_of_a_decoder_prompts_it_on_as_many_rows_as_are_cheap(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = gpt2(tmp_path)
    rows = pa.table({"text": TEXTS * 4, "label": ["bad", "good", "good"] * 4})
    one = recipe(Path(place), {"type": "text-classification", "max_length": 32})
    found = zero_shot.measure_baseline(one, rows, ("bad", "good"))
    assert (found["rows"], found["how"]) == (12, "prompted, the likeliest label by its name")
    best = prompted.score_labels(place, TEXTS, ["bad", "good"], 32, "fp32").argmax(1)
    right = [("bad", "good")[one] == wanted for one, wanted in zip(best, ["bad", "good", "good"], strict=True)]
    assert found["metrics"]["accuracy"] == pytest.approx(sum(right) / 3)
    monkeypatch.setattr(prompted, "READ", 500)
    assert 2 <= zero_shot.measure_baseline(one, rows, ("bad", "good"))["rows"] < 8
    assert not prompted.is_decoder(str(tiny_model))
