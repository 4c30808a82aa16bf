"""Objectives that write text: what they learn from, how they judge, and what they write."""

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.quality import ngrams
from evertune import objectives
from evertune.errors import ConfigError
from evertune.evaluation import excerpts
from evertune.models import base as base_models
from evertune.monitoring import observations as observing
from evertune.objectives import causal_lm, chat, seq2seq
from evertune.objectives.shared import generated_text
from evertune.training import kernels
from tests.helpers.model import decoding_tokenizer, recipe, write_tiny_decoder, write_tiny_model, write_tiny_seq2seq
from tests.helpers.objective_samples import SAMPLES

TEXTS = ["my card was lost", "", "when will the parcel arrive " * 6]


def made(objective: Any, model: Any, options: Any, inputs: Any, targets: Any = None) -> list[dict[str, Any]]:
    known = () if targets is None or not objective.ENCODES_TARGET else (targets,)
    encoded = objective.encode(inputs, model.tokenizer, options, *known)
    rows = [dict(zip(encoded, values, strict=True)) for values in zip(*encoded.values(), strict=True)]
    return [objective.make_example(row, one, {}) for row, one in zip(rows, targets or [None] * len(rows), strict=True)]


def said(objective: Any, model: Any, examples: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], float]:
    import torch

    with torch.inference_mode():
        found: tuple[list[dict[str, Any]], float] = objective.predict_batch(
            model.eval(), objective.collate(examples, model.tokenizer.pad_token_id), examples, [], {}
        )
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bases")


@pytest.fixture(scope="module")
def decoder(folder: Path) -> Any:
    import torch

    torch.manual_seed(0)
    return causal_lm.build_model(write_tiny_decoder(folder), [], causal_lm.Options(max_new_tokens=5))


@pytest.fixture(scope="module")
def both(folder: Path) -> Any:
    import torch

    torch.manual_seed(0)
    return seq2seq.build_model(write_tiny_seq2seq(folder), [], seq2seq.Options(max_new_tokens=5))


def test_blocks_foretell_every_token_once_and_no_token_of_another_text(decoder: Any) -> None:
    for longest in (8, 9, 64):
        examples = made(causal_lm, decoder, causal_lm.Options(max_length=longest, max_new_tokens=1), TEXTS, TEXTS)
        batch = causal_lm.collate(examples, 0)
        assert batch["input_ids"].shape[1] <= longest
        first = 0
        taught = []
        for one in examples:
            blocks = range(first, first + len(one["starts"]))
            taught.append([int(token) for row in blocks for token in batch["labels"][row] if token != -100])
            first += len(blocks)
        assert taught == [list(one["input_ids"][1:]) for one in examples]  # the end is learned, the start given
        assert first == len(batch["labels"])


def test_likelihood_is_the_models_own_however_the_text_is_cut_and_batched(decoder: Any) -> None:
    import torch

    options = causal_lm.Options(max_length=60, max_new_tokens=5, continued=1.0)
    examples = made(causal_lm, decoder, options, TEXTS[:2], TEXTS[:2])
    found, total = said(causal_lm, decoder, examples)
    for one, row in zip(found, examples, strict=True):
        ids = torch.tensor([row["input_ids"]])
        mean = float(decoder(input_ids=ids, labels=ids).loss.detach())  # transformers' own
        assert one["nats"] == pytest.approx(mean * (ids.shape[1] - 1), rel=1e-4)
    assert total == pytest.approx(sum(one["nats"] for one in found))
    sums = causal_lm.compute_statistics(TEXTS[:2], found, []).sum(0)
    values = causal_lm.compute_metrics(sums, [])
    size = len(TEXTS[0])
    assert float(values["bits_per_byte"]) == pytest.approx(total / size / math.log(2))
    assert float(values["perplexity"]) == pytest.approx(
        math.exp(total / sum(len(one["input_ids"]) - 1 for one in examples))
    )


def test_the_loss_of_a_large_vocabulary_is_computed_in_parts_and_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    logits = torch.randn(3, 5, 7, requires_grad=True)
    labels = torch.tensor([[-100, 1, 2, 3, -100]] * 3)
    whole = generated_text.compute_loss(logits, labels, 0.1)
    (wanted,) = torch.autograd.grad(whole, logits)
    monkeypatch.setattr(generated_text, "LOGITS", 28)
    parts = generated_text.compute_loss(logits, labels, 0.1)
    assert torch.allclose(parts, whole) and torch.allclose(torch.autograd.grad(parts, logits)[0], wanted)
    sizes = [len(part["labels"]) for part in generated_text.split_batch({"labels": labels}, 7)]
    assert sizes == [1, 1, 1]


def test_a_decoder_reads_without_padding_and_writes_as_ever(decoder: Any) -> None:
    import torch

    examples = made(causal_lm, decoder, causal_lm.Options(continued=1.0), TEXTS[:2], TEXTS[:2])
    wanted, total = said(causal_lm, decoder, examples)
    with kernels.accelerate_training(decoder, "fp32", torch.arange(5)) as free:
        assert free
        assert decoder.get_input_embeddings().weight.shape[0] == decoder.config.vocab_size  # tied: no row is left out
        found, same = said(causal_lm, decoder, examples)
    assert same == pytest.approx(total, rel=1e-5)
    assert [one["continuation"] for one in found] == [one["continuation"] for one in wanted]


def test_an_encoder_with_a_decoder_keeps_its_padding_and_its_embedding(both: Any) -> None:
    import torch

    with kernels.accelerate_training(both, "fp32", torch.arange(5)) as free:
        assert not free and both.get_input_embeddings().weight.shape[0] == both.config.vocab_size


def test_a_prompt_is_continued_alike_alone_and_beside_longer_ones_and_loses_its_beginning_if_too_long(
    decoder: Any,
) -> None:
    options = causal_lm.Options(max_new_tokens=5)
    prompts = ["my card", "when will the parcel arrive", "so " * 200]
    together, _ = said(causal_lm, decoder, made(causal_lm, decoder, options, prompts))
    alone = [said(causal_lm, decoder, made(causal_lm, decoder, options, [one]))[0][0] for one in prompts]
    assert together == alone and all(one.keys() == causal_lm.OUTPUTS.keys() for one in alone)


@pytest.mark.parametrize("kind", ["decoder", "both"])
def test_drift_looks_at_the_states_of_texts_of_any_length(kind: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(kind)
    objective = {"decoder": causal_lm, "both": seq2seq}[kind]
    examples = made(objective, model, objective.Options(max_length=60, max_new_tokens=5), ["my card", "so " * 200])
    assert [len(one["input_ids"]) for one in examples][1] == 60
    seer = SimpleNamespace(
        model=model.eval(),
        objective=objective,
        tokenizer=model.tokenizer,
        precision="fp32",
        card={"tokens_per_batch": 99},
    )
    kinds = {"decoder": "causal-lm", "both": "seq2seq"}
    assert observing._compute_states(seer, objectives.load_objective(kinds[kind]), examples).shape == (2, 16)


def test_drawn_words_are_the_same_each_time_and_leave_the_generator_alone(folder: Path) -> None:
    import torch

    options = causal_lm.Options(max_new_tokens=5, temperature=1.5, top_p=0.9)
    model = causal_lm.build_model(write_tiny_decoder(folder), [], options)
    examples = made(causal_lm, model, options, ["my card"])
    state = torch.get_rng_state()
    assert said(causal_lm, model, examples) == said(causal_lm, model, examples)
    assert torch.equal(state, torch.get_rng_state())


def test_a_folder_without_weights_starts_from_the_seed(folder: Path) -> None:
    import torch

    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        model = causal_lm.build_model(write_tiny_decoder(folder), [], causal_lm.Options())
        found.append(float(model.get_input_embeddings().weight.sum().detach()))
    assert found[0] == found[1] != found[2]


def test_an_answer_alone_is_learned_and_a_long_prompt_loses_its_beginning(decoder: Any) -> None:
    tokenizer = decoding_tokenizer()
    options = chat.Options(max_length=80, max_new_tokens=8, system="Be brief.", answered=1.0)
    prompts = [
        "Where is it?",
        '[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}, '
        '{"role": "user", "content": "Where?"}]',
        "long " * 99,
    ]
    examples = made(chat, decoder, options, prompts, ["On its way."] * 3)
    labels = chat.collate(examples, 0)["labels"]
    for row in labels:
        assert tokenizer.decode([one for one in row.tolist() if one != -100]) == "On its way.<|im_end|>"
    told = tokenizer.decode(examples[1]["input_ids"])
    assert told.startswith(
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant"
    )
    assert told.endswith("<|im_start|>assistant\nOn its way.<|im_end|>")
    assert max(len(one["input_ids"]) for one in examples) == 80
    served = made(chat, decoder, options, prompts)
    assert tokenizer.decode(served[0]["input_ids"]).endswith("<|im_start|>assistant\n")
    assert len(served[2]["input_ids"]) == 72  # room for an answer is left


def test_dialogues_that_cannot_be_told_are_refused() -> None:
    prompts = [
        "Hi",
        "Hi",
        '[{"role": "user"}]',
        '[{"role": "user", "content": 1}]',
        '[{"role": "user"',
        '[{"role": "assistant", "content": "Hi"}]',
        None,
    ]
    found = chat.find_problems(prompts, ["Hello", " ", "a", "a", "a", "a", "a"], chat.Options())
    assert found[:2] == [None, "the answer is empty"] and found[-1] is None
    assert ['"role" and a "content"' in str(found[2]), "must be texts" in str(found[3])] == [True, True]
    assert "not a dialogue" in str(found[4]) and "by the assistant" in str(found[5])


@pytest.mark.parametrize("objective", [causal_lm, chat, seq2seq], ids=lambda one: one.__name__.rpartition(".")[2])
def test_a_base_that_writes_no_such_text_is_named(objective: Any, folder: Path, tiny_model: Path) -> None:
    decoder = write_tiny_decoder(folder)
    both = write_tiny_seq2seq(folder)
    fits, wrong = (both, decoder) if objective is seq2seq else (decoder, both)
    assert objective.explain_unfit(fits) is None
    assert objective.explain_unfit(wrong) is not None and objective.explain_unfit(tiny_model) is not None
    if objective is chat:
        assert "chat template" in str(chat.explain_unfit(both))


@pytest.mark.parametrize("options", [causal_lm.Options, chat.Options])
def test_room_for_a_prompt_is_asked_for(options: Any) -> None:
    with pytest.raises(ValueError, match="leaves no room"):
        options(max_length=32, max_new_tokens=32)


def test_bleu_and_chrf_of_sums_are_those_of_sacrebleu() -> None:
    from sacrebleu import corpus_bleu, corpus_chrf

    wanted = ["the parcel is late again today", "a card was lost", "money back", "ünïcode works"]
    short = ["the parcel is late", "a card", "money back now", "works"]
    for guess in (wanted, ["the parcel is late today", "card lost", "", "works"], ["x", "y", "z", "w"], short):
        for count in (4, 3, 1):
            said = guess[-count:]
            right = wanted[-count:]
            rows = [{"target": one, "nats": 1.0, "bytes": 4} for one in said]
            values = seq2seq.compute_metrics(seq2seq.compute_statistics(right, rows, []).sum(0), [])
            assert 100 * float(values["bleu"]) == pytest.approx(corpus_bleu(said, [right]).score, abs=1e-6)
            assert 100 * float(values["chrf"]) == pytest.approx(corpus_chrf(said, [right]).score)


def test_the_baseline_of_five_bytes_is_a_distribution_and_knows_what_it_has_seen() -> None:
    model = ngrams.KneserNey(["to be or not to be", "that is the question"])
    for context in (b"to b", b"zzzz"):
        assert sum(model._symbol_probability(tuple(context), one) for one in range(257)) == pytest.approx(1)
    assert model.count_nats("to be or not to be") < model.count_nats("be to not or be to")


def test_overlap_variety_and_repetition() -> None:
    assert generated_text.measure_overlap("the cat sat down", "the dog sat  down") == (0.75, 0.0)
    assert generated_text.measure_overlap("One  two", "One two")[1] == 1.0
    assert generated_text.measure_variety("a b a b a b a b") == pytest.approx((2 / 8, 2 / 7, 1 - 2 / 5))
    assert generated_text.measure_variety("") == (1.0, 1.0, 0.0)


@pytest.mark.parametrize("name", ["causal-lm", "chat", "seq2seq"])
def test_knowing_no_context_is_worse_than_perfect_and_broken_is_no_number(name: str) -> None:
    objective = objectives.load_objective(name)
    targets = SAMPLES[name]["targets"]
    alone = objective.predict_majority(targets)
    value: Callable[[Any], float] = lambda rows: float(  # noqa: E731
        objective.compute_metrics(objective.compute_statistics(targets, rows, []).sum(0), [])["bits_per_byte"]
    )
    assert value(alone) > value([{**one, "nats": 0.0} for one in alone]) == 0.0
    assert np.isnan(value([{**one, "nats": math.nan} for one in alone]))


def test_samples_show_both_models_beside_what_was_wanted(both: Any) -> None:
    rows = made(seq2seq, both, seq2seq.Options(max_new_tokens=5), TEXTS, ["a", "b", "c"])
    found, _ = said(seq2seq, both, rows)
    other = [{**one, "target": "old"} for one in found]
    shown = excerpts.select_excerpts(
        objectives.load_objective("seq2seq"), TEXTS, ["a", "b", "c"], {"challenger": found, "champion": other}
    )
    assert [one["champion"] for one in shown] == ["old"] * 3 and [one["target"] for one in shown] == ["a", "b", "c"]
    assert excerpts.select_excerpts(objectives.load_objective("pair-regression"), [], [], {"challenger": []}) == []


def test_a_weight_that_is_an_embedding_too_stays_as_it_is_in_bf16(folder: Path) -> None:
    import torch

    from evertune.serving.portable.inference import Predictor

    held = Predictor.__new__(Predictor)
    held.model = causal_lm.build_model(write_tiny_decoder(folder), [], causal_lm.Options())
    held._prepare_for_bf16()
    assert held.model.get_input_embeddings().weight.dtype == torch.float32
    held.model = write_untied(folder)
    held._prepare_for_bf16()
    assert {part.weight.dtype for part in held.model.modules() if type(part) is torch.nn.Linear} == {torch.bfloat16}


def write_untied(folder: Path) -> Any:
    from transformers import AutoModel

    return AutoModel.from_pretrained(write_tiny_model(folder / "encoder"))


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ({"type": "causal-lm", "max_length": 65, "max_new_tokens": 8}, "65 is more than the 64 tokens that .*lower it"),
        ({"type": "seq2seq"}, "is a GPT2LMHeadModel; this objective needs .* kind encoder-decoder"),
    ],
)
def test_a_base_that_does_not_fit_is_told_before_any_training(
    objective: dict[str, Any], message: str, folder: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        base_models.check_fit(recipe(write_tiny_decoder(folder), objective))
