"""A text encoder made of a decoder LLM: the states of its last layer, of the last token or their mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recbole_cdsr.llm import local_models
from recbole_cdsr.llm.kept_vectors import KeptVectors
from recbole_cdsr.llm.text_batches import encode_in_batches

POOLINGS = ("last", "mean")


def decoder_name(name_or_path: str, pooling: str) -> str:
    """The name that features made with such an encoder are filed under."""
    return f"{local_models.local_model_name(name_or_path)}:{pooling}"


class TransformersEncoder:
    """A `TextEncoder` of any model of `transformers`.

    Parameters
    ----------
    name_or_path : str
        Folder or hub name.
    pooling : {"last", "mean"}
        The state of a text's last token, which in a decoder has seen all others, or the mean over its tokens.
    max_tokens : int
        Where texts are cut.
    device, dtype, device_map
        As `local_models.load_weights` takes them.
    batch_size : int
        Texts per forward pass.

    Raises
    ------
    FeatureError
        The model is not found.

    Notes
    -----
    Vectors are the states as they are, not scaled to length 1. The weights are loaded with the first use.
    """

    def __init__(
        self,
        name_or_path: str,
        *,
        pooling: str = "last",
        max_tokens: int = 512,
        device: str = "cpu",
        dtype: str = "auto",
        device_map: str | None = None,
        batch_size: int = 32,
    ) -> None:
        if pooling not in POOLINGS:
            raise ValueError(f"pooling is {pooling!r}, not one of {', '.join(POOLINGS)}")
        self.source = local_models.locate_model("llm_encoder", name_or_path)
        self.pooling, self.max_tokens, self.batch_size = pooling, max_tokens, batch_size
        self.device, self.device_map = device, device_map
        self._local = local_models.OnFirstUse("llm_encoder", self.source, "AutoModel", device, dtype, device_map)

    @property
    def name(self) -> str:
        return f"{self.source.name}:{self.pooling}"

    @property
    def dim(self) -> int:
        return int(self._model().config.get_text_config(decoder=True).hidden_size)

    def provenance(self) -> dict[str, Any]:
        """`name`, `revision`, hashes, `pooling`, `max_tokens`, `dtype`, and the library's version."""
        return self.source.identity() | {
            "name": self.name,
            "pooling": self.pooling,
            "max_tokens": self.max_tokens,
            "dtype": self._local.dtype,
            "library": local_models.library(),
        }

    def encode(self, texts: Sequence[str], show_progress: bool = False, kept: KeptVectors | None = None) -> np.ndarray:
        """Encode texts; equal texts are computed once, and batches are made of texts of similar length.

        Parameters
        ----------
        texts : sequence of str
            Cut at `max_tokens`.
        show_progress : bool
            Whether to draw a progress bar.
        kept : KeptVectors, optional
            Has what an interrupted call encoded, and keeps what this one does.

        Returns
        -------
        np.ndarray
            float32 `[len(texts), dim]`.

        Raises
        ------
        FeatureError
            The model cannot be loaded, has no memory for a single text, or gives NaN or infinity.
        """
        return encode_in_batches(
            texts,
            lambda: self.dim,
            self._encoded,
            self.batch_size,
            self.provenance,
            "try llm_dtype=float32, another llm_encoder or device",
            show_progress,
            kept,
        )

    def _encoded(self, texts: list[str]) -> np.ndarray:
        parts = local_models.in_halves(
            texts,
            lambda some: [self._pooled(some).float().cpu().numpy()],  # [b, D]
            lambda text: (
                f"The device has not the memory for {self.name} with a text of up to {self.max_tokens} tokens; set "
                "llm_device_map=auto, llm_dtype=bfloat16, or a smaller llm_encoder_max_tokens."
            ),
        )
        return np.concatenate(parts)  # [B, D]

    def _pooled(self, texts: list[str]) -> Any:
        model, tokenizer = self._model(), self._tokenizer()
        bound = local_models.longest_prompt(model)
        longest = self.max_tokens if bound is None else min(self.max_tokens, bound)
        pad_id = local_models.pad_token(tokenizer)
        rows = [row or [pad_id] for row in tokenizer(texts, truncation=True, max_length=longest)["input_ids"]]
        ids, mask = local_models.padded(rows, pad_id, left=False)  # [B, L]
        device = model.get_input_embeddings().weight.device
        ids, mask = ids.to(device), mask.to(device)
        states = model(input_ids=ids, attention_mask=mask).last_hidden_state  # [B, L, D]
        lengths = mask.to(states.device).sum(dim=1)  # [B]
        if self.pooling == "last":
            return states[range(len(rows)), lengths - 1]  # [B, D]
        weights = mask.to(states.device).unsqueeze(-1)  # [B, L, 1]
        # In float32: a sum over hundreds of bfloat16 states would lose what tells texts apart.
        return (states.float() * weights).sum(dim=1) / lengths.unsqueeze(-1)  # [B, D]

    def _tokenizer(self) -> Any:
        tokenizer = self._local.tokenizer()
        tokenizer.truncation_side = "right"
        return tokenizer

    def _model(self) -> Any:
        return self._local.model()
