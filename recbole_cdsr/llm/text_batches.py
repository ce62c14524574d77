"""Many texts through an encoder of this machine: equal ones once, in batches of similar length."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from tqdm import tqdm

from recbole_cdsr.llm.matrix import check_finite


def encode_in_batches(
    texts: Sequence[str],
    dim: Callable[[], int],
    encode: Callable[[list[str]], np.ndarray],
    batch_size: int,
    name: str,
    remedy: str,
    show_progress: bool,
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
    name
        Of the encoder, for the progress bar and messages.
    remedy
        What to do about vectors that are not finite.
    show_progress
        Whether to draw a progress bar.

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
    with tqdm(total=len(unique), desc=name[-40:], unit=" texts", disable=not show_progress) as bar:
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            vectors[rows] = encode([unique[row] for row in rows])
            bar.update(len(rows))
    check_finite(vectors, f"The encoder {name} gave", remedy)
    return vectors if len(unique) == len(texts) else vectors[text_of]  # [n, D]
