"""A tiny model with random weights, rows that it can learn, and the road from rows to a bundle, as the tests of what
learns use them."""

import json
import string
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

import evertune
from evertune import training
from evertune.config import Recipe
from evertune.records import Candidate, Snapshot, Tokens
from evertune.runtime.context import RunContext
from evertune.runtime.home import Home
from evertune.tokenization import tokenize as tokenization

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = "refund money back parcel arrive order card lost Paris John lives in the a".split()
WEIGHTS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
MOVES = {  # words that tell the labels apart
    "refund": "I want my money back for order",
    "delivery": "when will the parcel arrive",
    "card": "my card was lost",
}
LABELS = tuple(MOVES)
TEXT = {"type": "text-classification", "max_length": 32}
TOKENS = {"type": "token-classification", "max_length": 32}
TAGS = ("O", "B-LOC", "B-PER")
SHAPES = Path(evertune.__file__).parent / "models"


def vocabulary() -> list[str]:
    letters = string.ascii_lowercase + string.ascii_uppercase + string.digits + string.punctuation
    return list(dict.fromkeys([*SPECIAL, *letters, *(f"##{letter}" for letter in letters), *WORDS]))


def tokenizer(special: Mapping[str, str] | None = None) -> Any:
    """A WordPiece tokenizer over letters and a few words; `special` names its special tokens."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    ids = {word: index for index, word in enumerate(vocabulary())}
    made = Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    made.normalizer = normalizers.BertNormalizer(lowercase=False)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="[UNK]", **(names if special is None else special))


def write_tiny_model(folder: Path, *, special: Mapping[str, str] | None = None, **config: Any) -> Path:
    """A BERT of 2 layers and 32 units with random weights, and its tokenizer, as a base model's folder."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    size = {"vocab_size": len(vocabulary()), "max_position_embeddings": 64, **WEIGHTS}
    BertModel(BertConfig(**{**size, **config})).save_pretrained(folder)
    tokenizer(special).save_pretrained(folder)
    return folder


def decoding_tokenizer() -> Any:
    """A byte-level tokenizer that knows where a text begins and ends."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(SHAPES / "gpt2_bytes")


def write_tiny_decoder(folder: Path) -> Path:
    """The configuration of a GPT-2 of 1 layer and 16 units, without weights, and its tokenizer."""
    from transformers import GPT2Config

    tokenizer = decoding_tokenizer()
    size = {"vocab_size": len(tokenizer), "n_positions": 64, "n_embd": 16, "n_layer": 1, "n_head": 2}
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = GPT2Config(**size, **ends, pad_token_id=tokenizer.pad_token_id, architectures=["GPT2LMHeadModel"])
    config.save_pretrained(folder / "decoder")
    tokenizer.save_pretrained(folder / "decoder")
    return folder / "decoder"


def write_tiny_seq2seq(folder: Path) -> Path:
    """The configuration of a T5 of 1 layer and 16 units, without weights, and its tokenizer."""
    from transformers import AutoTokenizer, T5Config

    tokenizer = AutoTokenizer.from_pretrained(SHAPES / "t5_bytes")
    size = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "vocab_size": len(tokenizer)}
    config = T5Config(**size, decoder_start_token_id=0, architectures=["T5ForConditionalGeneration"])
    config.save_pretrained(folder / "seq2seq")
    tokenizer.save_pretrained(folder / "seq2seq")
    return folder / "seq2seq"


def write_broken_model(folder: Path) -> Path:
    """A tiny model with a weight that is not a number: so is its loss."""
    from safetensors.torch import load_file, save_file

    file = write_tiny_model(folder) / "model.safetensors"
    tensors = load_file(file)
    tensors["encoder.layer.0.output.dense.weight"][0, 0] = float("nan")
    save_file(tensors, file, metadata={"format": "pt"})
    return folder


def write_steady_model(folder: Path) -> Path:
    """A tiny model without dropout: however its training is cut or shared, it learns the same."""
    return write_tiny_model(folder, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


def recipe(model: Path, objective: Mapping[str, Any] = TEXT, **sections: Any) -> Recipe:
    """A recipe over the tiny model; `training` is laid over settings that suit it."""
    settings = {
        "epochs": 3,
        "learning_rate": 5e-3,
        "tokens_per_batch": 128,
        "precision": "fp32",
        "warmup": 0.0,
        **sections.pop("training", {}),
    }
    tree = {
        "name": "tiny",
        "objective": dict(objective),
        "base_model": str(model),
        "folder": str(model),
        "data": {"sources": [{"path": "rows.csv"}]},
        "training": settings,
        "evaluation": {"precision": "fp32", "bootstrap": 200, **sections.pop("evaluation", {})},
        **sections,
    }
    return Recipe.model_validate(tree)


def table(rows: Sequence[Mapping[str, Any]], split: str | None = None) -> pa.Table:
    """Rows as the corpus gives them; what is filled in may stand in the row."""
    same = {"batch": 1, "part": 0, "split": split or "train", "source": "rows.csv", "timestamp": None}
    filled = [{"row_version": f"{number:032x}", "component": number, **same, **row} for number, row in enumerate(rows)]
    return pa.Table.from_pylist(filled)


def text_rows(count: int, labels: Sequence[str] = LABELS, start: int = 0) -> list[dict[str, Any]]:
    """Rows that the tiny model can learn, of uneven length."""
    rows = []
    for number in range(start, start + count):
        label = labels[number % len(labels)]
        rows.append({"text": f"{MOVES[label]} {' '.join('the' for _ in range(number % 7))} {number}", "label": label})
    return rows


def tag_rows(count: int) -> list[dict[str, Any]]:
    """Sentences with a name and a place."""
    rows = []
    for number in range(count):
        filler = ["the"] * (number % 5)
        words = [*filler, "John", "lives", "in", "Paris", str(number)]
        rows.append({"tokens": words, "tags": [*("O" for _ in filler), "B-PER", "O", "O", "B-LOC", "O"]})
    return rows


def split_rows(rows: Sequence[dict[str, Any]], validation: int = 5) -> pa.Table:
    """Every `validation`-th row to validation, the others to train."""
    return table([{**row, "split": "validation" if n % validation == 4 else "train"} for n, row in enumerate(rows)])


def snapshot(rows: pa.Table, labels: Sequence[str]) -> Snapshot:
    splits = rows.column("split").to_pylist()
    return Snapshot(3, f"snapshot of {len(rows)}", {name: splits.count(name) for name in set(splits)}, tuple(labels), 1)


def tokens_of(one: Recipe, home: Home, rows: pa.Table, labels: Sequence[str] = LABELS) -> Tokens:
    return tokenization.tokenize_rows(RunContext(one, home), snapshot(rows, labels), rows)


def train(
    one: Recipe,
    place: Path,
    rows: pa.Table,
    labels: Sequence[str] = LABELS,
    *,
    log: Callable[[Mapping[str, float], int], None] | None = None,
    **how: Any,
) -> Candidate:
    """What the finetune step does with a snapshot, in the folder `place`; metrics by step go to its history.jsonl."""
    home = Home(place, one.name)
    folder = place / "run"
    tokens = tokens_of(one, home, rows, labels)
    folder.mkdir(parents=True, exist_ok=True)

    def note(metrics: Mapping[str, float], step: int) -> None:
        entry = {"step": step, **metrics}
        with (folder / "history.jsonl").open("a+") as file:
            file.seek(0)
            if entry not in map(json.loads, file.readlines()):  # once, as `tracking.Run.log`
                file.write(json.dumps(entry) + "\n")

    encoded = tokenization.load_tokens(tokens, rows)
    return training.finetune_model(
        RunContext(one, home), tokens, encoded, rows, run_id="r", folder=folder, log=log or note, **how
    )


def history(place: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (place / "run" / "history.jsonl").read_text().splitlines()]


def weights(candidate: Candidate) -> dict[str, Any]:
    """The bundle's tensors by name; of an adapter that stays apart, its own."""
    from safetensors.torch import load_file

    (file,) = (Path(candidate.bundle) / "model").glob("*model.safetensors")
    return dict(load_file(file))


def difference(one: Candidate, other: Candidate) -> float:
    """The largest difference of any weight."""
    ours = weights(one)
    theirs = weights(other)
    assert ours.keys() == theirs.keys()
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


def certain(objective: Any, targets: Sequence[Any], score: float = 0.9) -> list[dict[str, Any]]:
    """Predictions that are the targets, each with the same score."""
    made = []
    for target in targets:
        one = {"string": target, "strings": list(target), "number": score, "numbers": [score] * len(target)}
        made.append({output: one[kind] for output, kind in objective.OUTPUTS.items()})
    return made
