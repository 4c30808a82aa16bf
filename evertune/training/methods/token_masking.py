"""Word dropout: hide some tokens from the model in training, so that it relies on no single one."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evertune.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class TokenMasking:
    """Which tokens may be masked, and by what (Iyyer et al. 2015; Gal & Ghahramani 2016).

    Args:
        share: probability that a token is masked.
        mask_id: id of the mask token.
        spared: ids that are never masked: special tokens and padding.
    """

    share: float
    mask_id: int
    spared: tuple[int, ...]

    def hide_tokens(self, ids: "torch.Tensor") -> "torch.Tensor":
        """Mask some of the token ids (rows, length), drawn from torch's own generator of their device."""
        import torch

        is_maskable = torch.isin(ids, torch.tensor(self.spared, device=ids.device), invert=True)
        return ids.masked_fill(is_maskable & (torch.rand(ids.shape, device=ids.device) < self.share), self.mask_id)


def build_masking(tokenizer: "PreTrainedTokenizerBase", share: float) -> TokenMasking | None:
    """Return the masking for a share of tokens; None if the share is 0.

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
