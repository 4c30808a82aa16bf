"""The network that draws a picture from a caption; a copy travels in its bundles."""

from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn import functional
from transformers import (
    AutoConfig,
    AutoModelForImageClassification,
    GPT2Config,
    GPT2Model,
    PretrainedConfig,
    PreTrainedModel,
)

from .code_network import CodesConfig, ImageCodes

Network = TypeVar("Network", bound=nn.Module)


class PicturesConfig(PretrainedConfig):
    """The shape of the decoder and of the two frozen networks.

    Args:
        words: number of word ids.
        caption: words of a caption.
        cells: codes of a picture.
        width, layers, heads, dropout: of the decoder.
        codes: configuration of the first stage.
        judge: configuration of the classifier that evaluates pictures.
    """

    model_type = "text-to-image"

    def __init__(
        self,
        words: int = 4096,
        caption: int = 12,
        cells: int = 64,
        width: int = 192,
        layers: int = 6,
        heads: int = 6,
        dropout: float = 0.1,
        codes: dict[str, Any] | None = None,
        judge: dict[str, Any] | None = None,
        **others: Any,
    ) -> None:
        super().__init__(**others)
        self.words = words
        self.caption = caption
        self.cells = cells
        self.width = width
        self.layers = layers
        self.heads = heads
        self.dropout = dropout
        self.codes = codes or {}
        self.judge = judge or {}


@dataclass
class PicturesOutput:
    """What the network says of each picture's codes.

    Args:
        logits: (rows, cells, codes) of each code given those before it, and (rows, cells) the codes themselves.
    """

    logits: tuple[torch.Tensor, torch.Tensor]


class CaptionedPictures(PreTrainedModel):
    """A decoder over a caption's words and the picture's codes (Ramesh et al. 2021, section 2.2)."""

    config_class = PicturesConfig
    main_input_name = "pixel_values"
    base_model_prefix = "decoder"

    def __init__(self, config: PicturesConfig) -> None:
        super().__init__(config)
        self.codes = freeze_weights(ImageCodes(CodesConfig(**config.codes)))
        self.judge = freeze_weights(
            AutoModelForImageClassification.from_config(AutoConfig.for_model(**config.judge), trust_remote_code=False)
        )
        count = self.codes.config.codes
        self.decoder = GPT2Model(
            GPT2Config(
                vocab_size=config.words + count,
                n_positions=config.caption + config.cells,
                n_embd=config.width,
                n_layer=config.layers,
                n_head=config.heads,
                resid_pdrop=config.dropout,
                embd_pdrop=config.dropout,
                attn_pdrop=config.dropout,
                bos_token_id=None,
                eos_token_id=None,
            )
        )
        self.head = nn.Linear(config.width, count)
        self.post_init()

    def forward(self, words: torch.Tensor, pixel_values: torch.Tensor) -> PicturesOutput:
        """Predict each code of the pictures from the caption and the codes before it."""
        words = words[:, : self.config.caption]
        with torch.no_grad():
            codes = self.codes.states(pixel_values)[1].flatten(1)
        if self.training:  # a tenth of the captions are dropped, for guidance (Ho & Salimans 2021)
            words = words * (torch.rand(len(words), 1) >= 0.1).to(words.device)
        stream = torch.cat([words, codes[:, :-1] + self.config.words], 1)
        states = self.decoder(input_ids=stream).last_hidden_state[:, words.shape[1] - 1 :]
        return PicturesOutput((self.head(states), codes))

    def sample_codes(
        self, words: torch.Tensor, noise: torch.Tensor, temperature: float, top_k: int, guidance: float
    ) -> torch.Tensor:
        """Draw the codes of a picture for each caption, (rows, cells).

        Args:
            words: (rows, caption) word ids.
            noise: (rows, cells, codes) Gumbel noise: with it the likeliest code is a sample.
            temperature: of the sampling.
            top_k: number of the likeliest codes to sample from.
            guidance: scale of classifier-free guidance.
        """
        next_ids = torch.cat([words, torch.zeros_like(words)])
        past = None
        codes = []
        for cell in range(self.config.cells):
            output = self.decoder(input_ids=next_ids, past_key_values=past, use_cache=True)
            past = output.past_key_values
            conditional, unconditional = self.head(output.last_hidden_state[:, -1]).float().chunk(2)
            logits = (unconditional + guidance * (conditional - unconditional)) / temperature
            threshold = logits.topk(min(top_k, logits.shape[1]), 1).values[:, -1:]
            code = (logits.masked_fill(logits < threshold, -torch.inf) + noise[:, cell]).argmax(1)
            codes.append(code)
            next_ids = (code + self.config.words).repeat(2)[:, None]
        return torch.stack(codes, 1)

    def classify(self, pictures: torch.Tensor) -> torch.Tensor:
        """Compute the classifier's logits of pictures of any size, (rows, labels)."""
        size = int(self.config.judge["image_size"])
        if pictures.shape[-1] != size:
            pictures = functional.interpolate(pictures, (size, size), mode="bicubic", align_corners=False)
        logits: torch.Tensor = self.judge(pixel_values=pictures.clamp(-1, 1)).logits
        return logits.float()


def freeze_weights(network: Network) -> Network:
    """Turn a network's weights into buffers, which training does not change, and return it."""
    for part in network.modules():
        for name, weight in list(part._parameters.items()):
            if weight is not None:
                del part._parameters[name]
                part.register_buffer(name, weight.detach())
    return network
