"""Small pictures, and configurations of image models, for the tests of image objectives."""

import base64
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

RESNET = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 8],
    "depths": [1, 1],
    "layer_type": "basic",
}
CODES = {"model_type": "image-codes", "width": 8, "codes": 16, "code_size": 4}


def picture(shade: int, side: int, seed: int = 0, format: str = "PNG") -> str:
    """Return a noisy picture of one shade, as base64."""
    grain = np.random.default_rng(seed).integers(0, 100, (side, side, 3))
    file = io.BytesIO()
    Image.fromarray((shade + grain).astype(np.uint8)).save(file, format)
    return base64.b64encode(file.getvalue()).decode()


def write_tiny_vision(folder: Path, config: dict[str, object] | None = None) -> Path:
    """Write a base model without weights: a configuration alone."""
    model = folder / "vision"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(config or RESNET))
    return model


def write_tiny_stages(folder: Path) -> Path:
    """Write a first stage with random weights, and a classifier in the folder `classifier`; return the stage."""
    from transformers import AutoConfig, AutoModelForImageClassification

    from evertune.objectives.shared.code_network import CodesConfig, ImageCodes

    ImageCodes(CodesConfig(**CODES)).save_pretrained(folder / "stage")
    classifier = AutoModelForImageClassification.from_config(AutoConfig.for_model(**RESNET, num_labels=2))
    classifier.save_pretrained(folder / "classifier")
    return folder / "stage"
