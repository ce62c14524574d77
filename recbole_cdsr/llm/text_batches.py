"""Many texts through an encoder of this machine: equal ones once, in batches of similar length."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from recbole_cdsr.errors import FeatureError
from recbole_cdsr.llm.kept_vectors import KeptVectors


def encode_in_batches(
    texts: Sequence[str],
    dim: Callable[[], int],
    encode: Callable[[list[str]], np.ndarray],
    batch_size: int,
    provenance: Callable[[], Mapping[str, Any]],
    remedy: str,
    show_progress: bool,
    kept: KeptVectors | None = None,
) -> np.ndarray:
    """Encode texts, the longest first: little is padded, and a device that has not the memory says so at once.

    Parameters
    ----------
    texts
        In any order.
    dim
        The width of the vectors; called once.
    encode
        From up to `batch_size` texts to their vectors, float32 `[B, dim]`.
    batch_size
        Texts in one call.
    provenance
        The encoder's; its `name` stands in the progress bar and in messages.
    remedy
        What to do about vectors that are not finite.
    show_progress
        Whether to draw a progress bar.
    kept
        Keeps the vectors until they are stored, and has those of a call that was interrupted.

    Returns
    -------
    np.ndarray
        float32 `[len(texts), dim]`.

    Raises
    ------
    FeatureError
        When a vector holds NaN or infinity.
    """
    if not len(texts):
        return np.zeros((0, dim()), dtype=np.float32)
    text_of, unique = pd.factorize(np.asarray(texts, dtype=object))  # [n], [u]
    order = np.argsort([-len(text) for text in unique], kind="stable")  # [u]
    vectors = np.empty((len(unique), dim()), dtype=np.float32)  # [u, D]
    encoder = provenance()
    file = None if kept is None else kept.of(encoder, unique[order], vectors.shape[1])
    done = 0 if file is None else file.read_into(vectors, order)
    if done:
        logging.getLogger().info(f"{done:,} of {len(unique):,} different texts were encoded before an interruption.")
    with tqdm(
        total=len(unique), initial=done, desc=encoder["name"][-40:], unit=" texts", disable=not show_progress
    ) as bar:
        for start in range(done, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = [unique[row] for row in rows]
            vectors[rows] = encode(batch)
            _check_finite(vectors[rows], batch, encoder["name"], remedy)
            if file is not None:
                file.append(vectors[rows])
            bar.update(len(rows))
    return vectors if len(unique) == len(texts) else vectors[text_of]  # [n, D]


def _check_finite(vectors: np.ndarray, texts: Sequence[str], name: str, remedy: str) -> None:
    finite = np.isfinite(vectors).all(axis=1)  # [B]
    if not finite.all():
        text = texts[int(np.argmin(finite))]
        raise FeatureError(f"The encoder {name} gave NaN or infinite numbers for the text {text[:60]!r}; {remedy}.")
