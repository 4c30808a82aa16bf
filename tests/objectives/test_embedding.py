"""What a text's vector is made of."""

from pathlib import Path

import pytest
import torch
import transformers
from pydantic import ValidationError

from evertune import objectives
from tests.helpers.model import LABELS, write_tiny_decoder


def test_a_text_s_vector_is_what_pooling_says_and_a_decoder_s_the_last(tmp_path: Path, tiny_model: Path) -> None:
    embedding = objectives.load_objective("embedding")
    config = transformers.AutoConfig.from_pretrained(write_tiny_decoder(tmp_path))
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path / "decoder")
    given = {
        "input_ids": torch.tensor([[5, 6, 7, 0], [8, 9, 5, 6]]),
        "attention_mask": torch.ones(2, 4, dtype=torch.int64),
    }
    given["attention_mask"][0, 3] = 0
    for base, auto in ((tiny_model, "mean"), (tmp_path / "decoder", "last")):
        models = {
            how: embedding.build_model(base, LABELS, embedding.Options(pooling=how)).eval()
            for how in ("auto", "mean", "last")
        }
        with torch.inference_mode():
            found = {how: model(**given).logits[0] * 0.1**0.5 for how, model in models.items()}
            hidden = models["last"].base_model(**given).last_hidden_state
        assert torch.equal(found["auto"], found[auto]) and not torch.allclose(found["mean"], found["last"], atol=1e-3)
        wanted = torch.nn.functional.normalize(hidden[[0, 1], [2, 3]], dim=-1)
        torch.testing.assert_close(found["last"], wanted)
        models["auto"].save_pretrained(tmp_path / "tuned")
        with torch.inference_mode():
            again = embedding.load_model(tmp_path / "tuned").eval()(**given).logits[0] * 0.1**0.5
        torch.testing.assert_close(again, found[auto])
    with pytest.raises(ValidationError, match="pooling"):
        embedding.Options(pooling="model")
