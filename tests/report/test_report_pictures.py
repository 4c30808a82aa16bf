"""The pictures of a report: readable with many classes, drawn without global state."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from evertune.report import draw_pictures
from tests.helpers.paths import ROOT
from tests.helpers.report import HISTORY, details_of


@pytest.mark.parametrize("count", [2, 14, 77])
def test_pictures_are_pngs_of_a_readable_size(tmp_path: Path, count: int) -> None:
    from matplotlib.image import imread

    pictures = draw_pictures(
        tmp_path / "new", details_of([f"class {number}" for number in range(count)], rows=5 * count), HISTORY
    )
    assert list(pictures) == ["loss_curve", "confusion", "per_class", "calibration"]
    for path in pictures.values():
        assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        image = imread(path)
        assert max(image.shape) < 2200 and image.std() > 0.01


def test_the_confusion_of_many_classes_keeps_those_with_errors(tmp_path: Path) -> None:
    from evertune.report.charts import MOST_CLASSES, draw_confusion

    counts = np.diag(np.full(77, 10))
    counts[70, 76] = 5
    figure = draw_confusion({"names": [f"class {number}" for number in range(77)], "counts": counts.tolist()})
    assert figure is not None
    shown = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(shown) == MOST_CLASSES and {"class 70", "class 76"} <= set(shown)


def test_pictures_write_a_label_as_it_is(tmp_path: Path) -> None:
    from evertune.report.charts import draw_per_class

    details = details_of(["$\\frac{$", "<&>", "a$b$c"])
    draw_pictures(tmp_path, details, HISTORY)
    figure = draw_per_class(details["challenger"]["per_class"], {})
    assert figure is not None and not any(label.get_parse_math() for label in figure.axes[0].get_yticklabels())


@pytest.mark.process
def test_only_drawing_imports_matplotlib_and_never_pyplot(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\nfrom evertune.report import draw_pictures\n"
        "assert 'matplotlib' not in sys.modules\n"
        f"assert draw_pictures(pathlib.Path({str(tmp_path)!r}), {{}}, {HISTORY!r})\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
