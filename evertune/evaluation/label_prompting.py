"""Zero-shot labels of a decoder: how likely each label follows a prompt.

A label's score is the mean log-likelihood of its tokens (Brown et al. 2020, section 2.4), minus the same without the
text, because common words are likely after any prompt (Holtzman et al. 2021, Surface Form Competition: PMI-DC).
"""

from collections.abc import Sequence
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

from evertune.runtime.files import read_json
from evertune.serving.portable.batching import by_length

TOKENS = 2048  # of a batch, with padding: its logits are many times as large
ROWS = 200  # most rows that are scored
READ = 20_000  # about the most tokens that are scored
LISTED = 20  # most labels that a prompt lists; a longer list would exceed most texts
Row = tuple[list[int], list[list[int]]]  # token ids of a prompt, and of each label


def is_decoder(model_path: str) -> bool:
    """Whether a base model's folder holds a decoder with a language-modelling head."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as NAMES

    stated = read_json(Path(model_path) / "config.json") or {}
    return any(architecture in NAMES.values() for architecture in stated.get("architectures") or ())


def score_labels(
    model_path: str, texts: Sequence[str], label_texts: Sequence[str], max_tokens: int, precision: str
) -> Any:
    """Return how well each label fits each text, (texts, labels): higher is better.

    Args:
        model_path: folder of the decoder.
        texts: to label.
        label_texts: name or description of each label.
        max_tokens: tokens of a text that are shown; of a longer text, its beginning and its end.
        precision: `bf16` or `fp32`.
    Raises:
        OSError: the weights cannot be loaded.
        ValueError: likewise.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_path, trust_remote_code=False)
    model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32, trust_remote_code=False).eval()
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    rows = [_build_row(tokenizer, _truncate_text(tokenizer, text, max_tokens), label_texts) for text in ["", *texts]]
    row_scores: list[Any] = [None] * len(rows)
    lengths = [_count_tokens(*row) for row in rows]
    with torch.inference_mode(), torch.autocast(model.device.type, torch.bfloat16, enabled=precision == "bf16"):
        for indices in by_length(lengths, TOKENS):
            batch_scores = _score_batch(model, [rows[index] for index in indices])
            for index, label_scores in zip(indices, batch_scores, strict=True):
                row_scores[index] = label_scores
    all_scores = torch.stack(row_scores)
    return (all_scores[1:] - all_scores[0]).numpy()


def count_affordable_rows(model_path: str, texts: Sequence[str], label_texts: Sequence[str], max_tokens: int) -> int:
    """Return how many such texts are scored: a report's baseline must not cost as much as a training.

    Args:
        model_path: see `score_labels`, like the others.
        texts: a sample.
        label_texts: name or description of each label.
        max_tokens: tokens of a text that are shown.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_path, trust_remote_code=False)
    lengths = [
        _count_tokens(*_build_row(tokenizer, _truncate_text(tokenizer, text, max_tokens), label_texts))
        for text in texts
    ]
    return max(1, min(ROWS, READ * len(texts) // max(1, sum(lengths))))


def _truncate_text(tokenizer: Any, text: str, max_tokens: int) -> str:
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    if len(ids) <= max_tokens:
        return text
    head = ids[: max_tokens // 2]
    tail = ids[len(ids) - (max_tokens - max_tokens // 2) :]
    return f"{tokenizer.decode(head)} ... {tokenizer.decode(tail)}"


def _build_row(tokenizer: Any, text: str, label_texts: Sequence[str]) -> Row:
    """Return the prompt for a text, and each label as its continuation."""
    choices = f" Choose one of: {', '.join(label_texts)}." if len(label_texts) <= LISTED else ""
    question = f"Text: {text or 'N/A'}\nWhich label fits the text?{choices} Answer with the label alone."
    if tokenizer.chat_template:
        messages = [{"role": "user", "content": question}]
        prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        start = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        space = ""
    else:
        start = tokenizer(f"{question}\nLabel:")["input_ids"]
        space = " "
    return start, [tokenizer(f"{space}{word}", add_special_tokens=False)["input_ids"] for word in label_texts]


def _count_tokens(prompt: list[int], labels: list[list[int]]) -> int:
    return len(prompt) + sum(map(len, labels))


def _score_batch(model: Any, rows: Sequence[Row]) -> Any:
    """Return the mean log-likelihood of each label's tokens after the prompt, (rows, labels).

    The prompt is read once: all labels of a row follow it in one sequence, each at the position right after the prompt
    and masked from the others.
    """
    import torch

    inputs = {name: value.to(model.device) for name, value in _collate_rows(rows).items()}
    sizes = [len(label) for label in rows[0][1]]
    firsts = {0, *accumulate(sizes)}
    label_tokens = sum(sizes)
    logits = model(**inputs, use_cache=False, logits_to_keep=label_tokens + 1).logits.float()
    # A token is predicted at the position before it; a label's first token at the prompt's last one.
    token_logits = logits[:, [0 if index in firsts else index for index in range(label_tokens)]]
    label_ids = inputs["input_ids"][:, -label_tokens:, None]
    log_likelihoods = token_logits.gather(-1, label_ids)[..., 0] - token_logits.logsumexp(-1)
    return torch.stack([label_part.mean(-1) for label_part in log_likelihoods.cpu().split(sizes, dim=1)], dim=1)


def _collate_rows(rows: Sequence[Row]) -> dict[str, Any]:
    """Pad rows on the left, so that all labels are at the end."""
    import torch

    lengths = [_count_tokens(*row) for row in rows]
    ids = torch.zeros(len(rows), max(lengths), dtype=torch.int64)
    positions = torch.zeros_like(ids)
    visible = torch.eye(max(lengths), dtype=torch.bool).repeat(
        len(rows), 1, 1
    )  # padding attends to itself, or all would be NaN
    for index, (prompt, labels) in enumerate(rows):
        first = max(lengths) - lengths[index]
        start = first + len(prompt)
        ids[index, first:] = torch.tensor([*prompt, *chain(*labels)])
        positions[index, first:start] = torch.arange(len(prompt))
        visible[index, first:start, first:start] = _causal_mask(len(prompt))
        for label in labels:
            end = start + len(label)
            positions[index, start:end] = len(prompt) + torch.arange(len(label))
            visible[index, start:end, first : first + len(prompt)] = True
            visible[index, start:end, start:end] = _causal_mask(len(label))
            start = end
    hidden = torch.zeros(visible.shape).masked_fill_(~visible, torch.finfo(torch.float32).min)[:, None]
    return {"input_ids": ids, "position_ids": positions, "attention_mask": hidden}


def _causal_mask(size: int) -> Any:
    import torch

    return torch.ones(size, size, dtype=torch.bool).tril()
