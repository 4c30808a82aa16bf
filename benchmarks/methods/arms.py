"""The ways of tuning that the benchmark `methods` compares: what each changes in the recipe of its data set.

The learning rates of adapters were chosen by hand, not searched for: `evertune search` may find better ones.
"""

from dataclasses import dataclass
from pathlib import Path
from random import Random

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SEED = 0  # of the rows


@dataclass(frozen=True)
class Arm:
    """A way of tuning.

    Args:
        changes: of the recipe, as `--set` takes them.
        teacher: the arm whose model, of the same seed, teaches, and whose layers the student begins with.
        only: the data set that it is measured on; None for all.
    """

    changes: tuple[str, ...] = ()
    teacher: str | None = None
    only: str | None = None


@dataclass(frozen=True)
class DataSet:
    """A data set: its recipe, what it changes for all arms, and how its metric is called.

    Args:
        train: train rows of it in words.
    """

    recipe: str
    changes: tuple[str, ...]
    metric: str
    train: str


SETS = {
    "banking77": DataSet(
        "configs/support_banking77.yaml",
        ("training.epochs=4", "training.checkpoint_steps=1000"),
        "accuracy",
        "40 of each of 77 intents",
    ),
    "conll2003": DataSet(
        "configs/ner_conll2003.yaml",
        ("training.epochs=3", "training.checkpoint_steps=1000"),
        "entity_f1",
        "2,500 sentences",
    ),
}
FEW = ("training.learning_rate=2.0e-3", "training.head_learning_rate=2.0e-3")  # what adapters want
FEWER = ("training.learning_rate=1.0e-2", "training.head_learning_rate=5.0e-3")  # factors and virtual tokens
LONG = "training.epochs=9"
STUDENT = "training.student.layers=3"
TAUGHT = (
    "training.distill={teacher: champion, temperature: 2.0, weight: 0.7, hidden: 1.0}",
    "training.learning_rate=3e-4",
)
ARMS = {
    "full": Arm(),
    "full, top 2 layers": Arm(("training.train_top_layers=2",)),
    "full, layer_decay 0.8": Arm(("training.layer_decay=0.8",)),
    "lora": Arm(("training.method=lora", *FEW)),
    "lora, beside its base": Arm(("training.method={type: lora, merge: false}", *FEW), only="banking77"),
    "dora": Arm(("training.method=dora", *FEW)),
    "adalora": Arm(("training.method=adalora", *FEW), only="banking77"),
    "ia3": Arm(("training.method=ia3", *FEWER)),
    "prefix": Arm(("training.method=prefix", *FEWER)),
    "prompt": Arm(("training.method=prompt", *FEWER), only="banking77"),
    "p-tuning": Arm(("training.method=p-tuning", *FEWER), only="banking77"),
    "label_smoothing 0.1": Arm(("training.label_smoothing=0.1",), only="banking77"),
    "focal loss": Arm(("training.loss=focal",), only="banking77"),
    "fgm, epsilon 1": Arm(("training.adversarial={type: fgm, epsilon: 1.0}",)),
    "fgm, epsilon 0.3": Arm(("training.adversarial={type: fgm, epsilon: 0.3}",), only="banking77"),
    "fgm, epsilon 0.1": Arm(("training.adversarial={type: fgm, epsilon: 0.1}",), only="conll2003"),
    "freelb": Arm(("training.adversarial=freelb",), only="banking77"),
    "r_drop 1.0": Arm(("training.r_drop=1.0",), only="banking77"),
    "ema 0.99": Arm(("training.ema=0.99",), only="banking77"),
    "student of 3 layers": Arm((STUDENT,)),
    "student, distilled": Arm((STUDENT, *TAUGHT), teacher="full"),
    "full, 9 epochs": Arm((LONG,), only="conll2003"),
    "lora, 9 epochs": Arm(("training.method=lora", *FEW, LONG), only="conll2003"),
    "lora, rank 32, 9 epochs": Arm(("training.method={type: lora, rank: 32, alpha: 64}", *FEW, LONG), only="conll2003"),
    "student, distilled, 9 epochs": Arm((STUDENT, *TAUGHT, LONG), teacher="full, 9 epochs", only="conll2003"),
}


def write_rows(name: str, folder: Path) -> tuple[str, ...]:
    """Write the train rows of a data set into the folder; the changes that make its recipe read them.

    Raises:
        OSError: the data are not there.
    """
    path = folder / f"{name}{'.csv' if name == 'banking77' else '.txt'}"
    source = DATA / name / "train"
    if name == "banking77":
        lines = source.with_suffix(".csv").read_text(encoding="utf-8").splitlines(keepends=True)
        path.write_text("".join([lines[0], *_take_per_label(lines[1:], 40)]), encoding="utf-8")
    else:
        blocks = [
            block for block in source.with_suffix(".txt").read_text(encoding="utf-8").split("\n\n") if block.strip()
        ]
        sentences = [block.strip("\n") for block in blocks if not block.lstrip().startswith("-DOCSTART-")]
        path.write_text("\n\n".join(Random(SEED).sample(sentences, 2500)) + "\n", encoding="utf-8")
    return (f"data.sources.0.path={path}",)


def _take_per_label(lines: list[str], count: int) -> list[str]:
    """So many lines of each label, which is what stands behind the last comma."""
    Random(SEED).shuffle(lines)
    label_counts: dict[str, int] = {}
    selected = []
    for line in lines:
        label = line.rsplit(",", 1)[-1]
        label_counts[label] = label_counts.get(label, 0) + 1
        if label_counts[label] <= count and line.count('"') % 2 == 0:
            selected.append(line)
    return selected
