"""What a decoder that was not tuned for the labels says when it is asked: how likely each of them follows a prompt.

A label's score is the mean log-likelihood of its tokens (Brown et al. 2020, section 2.4), less what it is without the
text: common words are likely whatever is asked (Holtzman et al. 2021, Surface Form Competition: PMI-DC).
"""

from collections.abc import Sequence
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

from evertune.runtime.files import read_json
from evertune.serving.portable.batching import by_length

TOKENS = 2048  # of a batch, padding counted: its logits are many times as large
ROWS, READ = 200, 20_000  # rows that are scored at most, and about how many tokens of them all
LISTED = 20  # labels that a prompt names; more of them would be longer than most texts
Row = tuple[list[int], list[list[int]]]  # a prompt, and what may follow it


def able(place: str) -> bool:
    """Whether a base model's folder holds a decoder with the head that tells the next token."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as NAMES

    stated = read_json(Path(place) / "config.json") or {}
    return any(one in NAMES.values() for one in stated.get("architectures") or ())


def scores(place: str, texts: Sequence[str], words: Sequence[str], longest: int, precision: str) -> Any:
    """How well each label goes with each text, (texts, labels): higher is better.

    Args:
        place: folder of the decoder.
        words: what each label is called.
        longest: tokens of a text that are shown; of a longer one its beginning and its end.
        precision: `bf16` or `fp32`.
    Raises:
        OSError, ValueError: its weights cannot be loaded.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32, trust_remote_code=False).eval()
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    rows = [_row(tokenizer, _cut(tokenizer, text, longest), words) for text in ["", *texts]]
    found: list[Any] = [None] * len(rows)
    lengths = [_length(*row) for row in rows]
    with torch.inference_mode(), torch.autocast(model.device.type, torch.bfloat16, enabled=precision == "bf16"):
        for indices in by_length(lengths, TOKENS):
            for index, line in zip(indices, _likelihoods(model, [rows[index] for index in indices]), strict=True):
                found[index] = line
    whole = torch.stack(found)
    return (whole[1:] - whole[0]).numpy()


def affordable(place: str, texts: Sequence[str], words: Sequence[str], longest: int) -> int:
    """How many of such texts are scored: a report's baseline must not cost what a training does.

    Args:
        place, words, longest: as `scores` takes them.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    lengths = [_length(*_row(tokenizer, _cut(tokenizer, text, longest), words)) for text in texts]
    return max(1, min(ROWS, READ * len(texts) // max(1, sum(lengths))))


def _cut(tokenizer: Any, text: str, longest: int) -> str:
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    if len(ids) <= longest:
        return text
    head, tail = ids[: longest // 2], ids[len(ids) - (longest - longest // 2) :]
    return f"{tokenizer.decode(head)} ... {tokenizer.decode(tail)}"


def _row(tokenizer: Any, text: str, words: Sequence[str]) -> Row:
    """The prompt for a text, and each label as what follows it."""
    among = f" Choose one of: {', '.join(words)}." if len(words) <= LISTED else ""
    asked = f"Text: {text or 'N/A'}\nWhich label fits the text?{among} Answer with the label alone."
    if tokenizer.chat_template:
        said = [{"role": "user", "content": asked}]
        prompt = tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
        start, space = tokenizer(prompt, add_special_tokens=False)["input_ids"], ""
    else:
        start, space = tokenizer(f"{asked}\nLabel:")["input_ids"], " "
    return start, [tokenizer(f"{space}{word}", add_special_tokens=False)["input_ids"] for word in words]


def _length(prompt: list[int], labels: list[list[int]]) -> int:
    return len(prompt) + sum(map(len, labels))


def _likelihoods(model: Any, rows: Sequence[Row]) -> Any:
    """(rows, labels): the mean log-likelihood of each label's tokens behind the prompt.

    All labels of a row stand behind its prompt at once, each at the place right behind it and blind to the others: so
    the prompt is read once.
    """
    import torch

    given = {name: value.to(model.device) for name, value in _batch(rows).items()}
    sizes = [len(label) for label in rows[0][1]]
    firsts, asked = {0, *accumulate(sizes)}, sum(sizes)
    logits = model(**given, use_cache=False, logits_to_keep=asked + 1).logits.float()
    told = logits[:, [0 if place in firsts else place for place in range(asked)]]  # by what stands before each token
    found = told.gather(-1, given["input_ids"][:, -asked:, None])[..., 0] - told.logsumexp(-1)
    return torch.stack([part.mean(-1) for part in found.cpu().split(sizes, dim=1)], dim=1)


def _batch(rows: Sequence[Row]) -> dict[str, Any]:
    """Rows with their padding in front, so that the labels of all stand at the end."""
    import torch

    lengths = [_length(*row) for row in rows]
    ids = torch.zeros(len(rows), max(lengths), dtype=torch.int64)
    positions = torch.zeros_like(ids)
    seen = torch.eye(max(lengths), dtype=torch.bool).repeat(len(rows), 1, 1)  # padding sees itself: else all is NaN
    for place, (prompt, labels) in enumerate(rows):
        first = max(lengths) - lengths[place]
        start = first + len(prompt)
        ids[place, first:] = torch.tensor([*prompt, *chain(*labels)])
        positions[place, first:start] = torch.arange(len(prompt))
        seen[place, first:start, first:start] = _triangle(len(prompt))
        for label in labels:
            end = start + len(label)
            positions[place, start:end] = len(prompt) + torch.arange(len(label))
            seen[place, start:end, first : first + len(prompt)] = True
            seen[place, start:end, start:end] = _triangle(len(label))
            start = end
    hidden = torch.zeros(seen.shape).masked_fill_(~seen, torch.finfo(torch.float32).min)[:, None]
    return {"input_ids": ids, "position_ids": positions, "attention_mask": hidden}


def _triangle(size: int) -> Any:
    import torch

    return torch.ones(size, size, dtype=torch.bool).tril()
