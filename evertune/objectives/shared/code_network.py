"""The network that encodes a picture as a grid of codes and decodes it; a copy travels in its bundles."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import PretrainedConfig, PreTrainedModel

COMMITMENT = 0.25  # weight of the pull of states to their codes (van den Oord et al. 2017, section 3.2)
CELL = 4  # pixels per side of one code


class CodesConfig(PretrainedConfig):
    """The shape of the network.

    Args:
        width: channels of the innermost layers.
        codes: number of codes.
        code_size: dimensions of a code.
    """

    model_type = "image-codes"

    def __init__(self, width: int = 64, codes: int = 512, code_size: int = 16, **others: Any) -> None:
        super().__init__(**others)
        self.width = width
        self.codes = codes
        self.code_size = code_size


@dataclass
class CodesOutput:
    """The network's output.

    Args:
        logits: reconstructions (rows, 3, size, size), distance of states from their codes (rows,), codes (rows, cells),
            and the pictures that the network saw (rows, 3, size, size).
    """

    logits: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


class ImageCodes(PreTrainedModel):
    """A discrete autoencoder with nearest codes (VQ-VAE, van den Oord et al. 2017).

    States and codes are compared on the unit sphere, in few dimensions, so that nearly all codes are used without
    restarts (Yu et al. 2022, section 3.2).
    """

    config_class = CodesConfig
    main_input_name = "pixel_values"
    base_model_prefix = "network"

    def __init__(self, config: CodesConfig) -> None:
        super().__init__(config)
        wide = config.width
        half = config.width // 2
        self.encoder = nn.Sequential(
            nn.Conv2d(3, half, 4, 2, 1),
            Residual(half),
            nn.Conv2d(half, wide, 4, 2, 1),
            Residual(wide),
            Residual(wide),
            nn.Conv2d(wide, config.code_size, 1),
        )
        self.codebook = nn.Parameter(torch.randn(config.codes, config.code_size))
        self.decoder = nn.Sequential(
            nn.Conv2d(config.code_size, wide, 3, padding=1),
            Residual(wide),
            Residual(wide),
            nn.ConvTranspose2d(wide, half, 4, 2, 1),
            Residual(half),
            nn.ConvTranspose2d(half, 3, 4, 2, 1),
        )
        self.post_init()

    def forward(self, pixel_values: torch.Tensor) -> CodesOutput:
        """Encode pictures and reconstruct them."""
        states, codes = self.states(pixel_values)
        chosen = self.look_up_vectors(codes)
        code_error = (chosen - states.detach()).square().mean((1, 2, 3))
        pull = (chosen.detach() - states).square().mean((1, 2, 3))
        straight = states + (chosen - states).detach()  # straight-through: the gradient skips the choice of codes
        return CodesOutput((self.decoder(straight), code_error + COMMITMENT * pull, codes.flatten(1), pixel_values))

    def states(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return states on the unit sphere and their nearest codes.

        They are (rows, code_size, height, width) and (rows, height, width).
        """
        states = functional.normalize(self.encoder(pixel_values).float(), dim=1)
        similarities = torch.einsum("rchw,kc->rkhw", states, functional.normalize(self.codebook, dim=1))
        return states, similarities.argmax(1)

    def look_up_vectors(self, codes: torch.Tensor) -> torch.Tensor:
        """Return the vectors of codes (rows, height, width), (rows, code_size, height, width)."""
        return functional.normalize(self.codebook, dim=1)[codes].permute(0, 3, 1, 2)

    def decode_codes(self, codes: torch.Tensor) -> torch.Tensor:
        """Decode codes (rows, cells) to pictures, (rows, 3, size, size)."""
        side = int(codes.shape[1] ** 0.5)
        pictures: torch.Tensor = self.decoder(self.look_up_vectors(codes.view(-1, side, side)))
        return pictures


class Residual(nn.Module):
    """Two convolutions with a skip connection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 1)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Add the convolutions' output to the states."""
        change: torch.Tensor = self.second(functional.silu(self.first(functional.silu(states))))
        return states + change
