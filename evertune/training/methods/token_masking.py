"""Word dropout: part of the tokens are hidden from the model while it learns, so that it leans on no single one."""

from dataclasses import dataclass
from typing import Any

from evertune.errors import ConfigError


@dataclass(frozen=True)
class TokenMasking:
    """Which tokens may be hidden, and behind what (Iyyer et al. 2015; Gal & Ghahramani 2016).

    Args:
        share: chance of each token.
        mask_id: what a hidden token becomes.
        spared: ids that are never hidden: special tokens and padding.
    """

    share: float
    mask_id: int
    spared: tuple[int, ...]

    def hide_tokens(self, ids: Any) -> Any:
        """Token ids (rows, length) with some of them hidden, drawn from torch's own generator of their device."""
        import torch

        is_maskable = torch.isin(ids, torch.tensor(self.spared, device=ids.device), invert=True)
        return ids.masked_fill(is_maskable & (torch.rand(ids.shape, device=ids.device) < self.share), self.mask_id)


def build_masking(tokenizer: Any, share: float) -> TokenMasking | None:
    """The masking that a recipe asks for; None where it asks for none.

    Raises:
        ConfigError: the tokenizer has no mask token.
    """
    if not share:
        return None
    if tokenizer.mask_token_id is None:
        raise ConfigError(
            f"training.mask_tokens: {share:g}, but the base model's tokenizer has no mask token; set it to 0"
        )
    return TokenMasking(share, tokenizer.mask_token_id, tuple(tokenizer.all_special_ids))
