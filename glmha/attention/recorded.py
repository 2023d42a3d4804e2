"""Channel attentions whose options travel with their weights."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor

from glmha.attention.base import ChannelAttention


class RecordedAttention(ChannelAttention):
    """A channel attention whose options travel with its weights.

    α, seeds and the like leave no trace in the tensors. The state dict has therefore one entry more, `_extra_state`:
    the class and its options as JSON bytes, a tensor that every file format keeps and no cast of types changes.
    """

    def get_extra_state(self) -> Tensor:
        """Encode the class and its options as bytes."""
        content = json.dumps({"class": type(self).__name__, **self.options})
        return torch.tensor(list(content.encode()), dtype=torch.uint8)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # Weights without options, such as exact attention's, are accepted if their shapes fit.
        state_dict.setdefault(f"{prefix}_extra_state", self.get_extra_state())
        super()._load_from_state_dict(state_dict, prefix, *args)

    def set_extra_state(self, state: Tensor) -> None:
        """Refuse weights that were trained in another attention or with other options.

        Raises:
            ValueError: if the recorded class or options are not this module's.
        """
        recorded, own = decode_options(state), {"class": type(self).__name__, **self.options}
        if recorded != own:
            raise ValueError(
                f"attention must be the checkpoint's, {recorded}, got {own}: load it by glmha.load_pretrained, which "
                "reads the options"
            )


def decode_options(state: Tensor) -> dict[str, Any]:
    """Read the class name ("class") and options that `RecordedAttention` put into a state dict."""
    return json.loads(bytes(state.tolist()))
