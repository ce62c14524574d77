"""The feature store: feature sets as a memory-mapped matrix and a sidecar that says what it is.

A feature set is two files in the dataset's features folder, `<kind>-<slug>.safetensors` with the tensor
`matrix` (float32 `[n, D]`) and `<kind>-<slug>.json`. The sidecar is written last, so a set without one does
not exist. A set is used only if it was made from what is at hand now; anything else is refused, with the
field that differs. Sets of another form (`pseudo_store`) are written and checked by the same functions.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recbole_cdsr import __version__
from recbole_cdsr.errors import FeatureError
from recbole_cdsr.files import replacing
from recbole_cdsr.llm.matrix import check_finite, map_safetensors, read_safetensors_header
from recbole_cdsr.locks import one_at_a_time

KINDS = ("items", "profiles", "pseudo")
FORMAT = 1


def hash_strings(strings: Sequence[str]) -> str:
    """SHA-256 of an ordered list of strings; no two different lists share the bytes that are hashed."""
    joined = "".join(strings)
    lengths = np.fromiter(map(len, strings), dtype="<i8", count=len(strings))
    return hashlib.sha256(lengths.tobytes() + joined.encode("utf-8", "surrogatepass")).hexdigest()


def slug(text: str) -> str:
    """A file-name part of an encoder's name: its last component, lower case, `a-z0-9.` and single dashes."""
    return re.sub(r"[^a-z0-9.]+", "-", text.rstrip("/").rsplit("/", 1)[-1].lower()).strip("-.") or "unnamed"


@dataclass(frozen=True)
class FeatureSet:
    """A checked feature set.

    Attributes
    ----------
    matrix : np.ndarray
        float32 `[n, D]`, mapped read-only; row i belongs to `tokens[i]`.
    tokens : Sequence of str
        Item or user tokens in row order.
    provenance : dict
        The sidecar's content.
    """

    matrix: np.ndarray
    tokens: Sequence[str]
    provenance: dict[str, Any]

    def align(self, tokens: Sequence[str]) -> np.ndarray:
        """Rows for `tokens`; see `align`."""
        return align(self.matrix, self.tokens, tokens, self.provenance.get("kind", "items"))


def rows_of(row_tokens: Sequence[str], tokens: Sequence[str], kind: str = "items") -> np.ndarray:
    """Find tokens in a feature set's token order.

    Parameters
    ----------
    row_tokens : sequence of str
        The token of each row `[n]`, all different.
    tokens : sequence of str
        The tokens wanted `[m]`, in any order.

    Returns
    -------
    np.ndarray
        int64 `[m]`, the row of each.

    Raises
    ------
    FeatureError
        When a token has no row, or two rows share one.
    """
    index = pd.Index(np.asarray(row_tokens, dtype=object))
    if not index.is_unique:
        raise FeatureError(
            f"The {kind} of the feature set are not unique: {index[index.duplicated()][0]!r} is there twice."
        )
    wanted = np.asarray(tokens, dtype=object)
    rows = index.get_indexer(wanted)  # [m]
    if (rows < 0).any():
        missing = wanted[rows < 0]
        raise FeatureError(
            f"{len(missing)} of {len(wanted)} {kind} have no features (first {missing[0]!r}): every one must "
            "stand in the .item file that the features were made from."
        )
    return rows


def align(matrix: np.ndarray, row_tokens: Sequence[str], tokens: Sequence[str], kind: str = "items") -> np.ndarray:
    """The rows of `matrix` `[n, D]` that belong to `tokens`, float32 `[m, D]`, a copy; see `rows_of`."""
    return np.asarray(matrix[rows_of(row_tokens, tokens, kind)], dtype=np.float32)  # [m, D]


def feature_paths(features_dir: Path, kind: str, name: str) -> tuple[Path, Path]:
    """Matrix and sidecar paths of the feature set `name` (see `slug`)."""
    if kind not in KINDS:
        raise ValueError(f"unknown kind of feature set {kind!r}")
    base = Path(features_dir) / f"{kind}-{name}"
    return base.with_name(base.name + ".safetensors"), base.with_name(base.name + ".json")


def feature_set_exists(features_dir: Path, kind: str, name: str) -> bool:
    """Whether the set was completely written (its sidecar, written last, is there)."""
    return feature_paths(features_dir, kind, name)[1].is_file()


def sole_maker(features_dir: Path, kind: str, name: str) -> AbstractContextManager[None]:
    """Make a set alone: other processes that want to make it wait, and then look for it again."""
    _, sidecar_path = feature_paths(features_dir, kind, name)
    return one_at_a_time(sidecar_path.with_suffix(".lock"), f"Features {sidecar_path.stem}")


def check_writable(features_dir: Path) -> None:
    """Make sure the features folder can be written, before hours are spent on what goes there.

    Raises
    ------
    FeatureError
        Naming the folder and the key `llm_features_dir`.
    """
    try:
        Path(features_dir).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=features_dir):  # nameless: nobody else's probe is in its way
            pass
    except OSError as error:
        raise _unwritable(features_dir, error) from None


def _unwritable(features_dir: Path, error: OSError) -> FeatureError:
    return FeatureError(
        f"The features folder {features_dir} cannot be written ({error.strerror}): make it writable or set "
        "llm_features_dir to another folder."
    )


def save_feature_set(
    features_dir: Path,
    kind: str,
    name: str,
    matrix: np.ndarray,
    tokens: Sequence[str],
    *,
    texts_sha256: str,
    encoder: Mapping[str, Any],
    prompt_version: str,
    made_by: str,
    extra: Mapping[str, Any] | None = None,
    texts: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Write a feature set: both files beside their place, then renamed, the sidecar last.

    Parameters
    ----------
    features_dir : Path
        Made when missing.
    kind : {"items", "profiles"}
        What the rows are.
    name : str
        Rest of the file name; `slug` makes one from an encoder's name.
    matrix : np.ndarray
        float32 `[n, D]`, finite.
    tokens : sequence of str
        The token of each row.
    texts_sha256 : str
        `hash_strings` of what the rows were made from: item texts, or users' histories.
    encoder : mapping
        `TextEncoder.provenance()`.
    prompt_version : str
        Version of the wording.
    made_by : str
        Who made it, e.g. `encoder only (no LLM)`.
    extra : mapping, optional
        Further plain data for the sidecar, compared like the rest when `load_feature_set` is given it.
    texts : mapping, optional
        Further files of text lines, as `write_set` takes them.

    Returns
    -------
    dict
        The sidecar's content.

    Raises
    ------
    FeatureError
        When the matrix is not finite or not as long as `tokens`, or the folder cannot be written.
    """
    matrix = np.ascontiguousarray(matrix, dtype=np.float32)
    matrix_path, _ = feature_paths(features_dir, kind, name)
    if matrix.ndim != 2 or len(matrix) != len(tokens):
        raise FeatureError(
            f"{matrix_path} would hold {list(matrix.shape)} for {len(tokens)} {kind}; nothing was written."
        )
    check_finite(matrix, f"{matrix_path} would hold", "nothing was written")
    sidecar = {
        "format": FORMAT,
        "kind": kind,
        "made_by": made_by,
        "tokens_sha256": hash_strings(tokens),
        "texts_sha256": texts_sha256,
        "prompt_version": prompt_version,
        "encoder": dict(encoder),
        "pca": None,
        "shape": list(matrix.shape),
        **(extra or {}),
        # Also in the matrix file: a sidecar never speaks for another matrix than its own.
        "matrix_sha256": hashlib.sha256(matrix.data).hexdigest(),
    }
    return write_set(features_dir, kind, name, {"matrix": matrix}, sidecar, texts)


def write_set(
    features_dir: Path,
    kind: str,
    name: str,
    tensors: Mapping[str, np.ndarray],
    sidecar: Mapping[str, Any],
    texts: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Write the files of a set, each beside its place and then renamed, the sidecar last.

    Parameters
    ----------
    features_dir, kind, name
        As in `save_feature_set`.
    tensors : mapping
        What the safetensors file holds.
    sidecar : mapping
        Plain data with `matrix_sha256`, by which the two files know each other; date and package are added.
    texts : mapping, optional
        Further files: suffix after the set's name -> lines, none of which holds a line break.

    Returns
    -------
    dict
        The sidecar's content.

    Raises
    ------
    FeatureError
        When the folder cannot be written.
    """
    from safetensors.numpy import save_file

    matrix_path, sidecar_path = feature_paths(features_dir, kind, name)
    content_sha256 = sidecar["matrix_sha256"]
    sidecar = {
        **sidecar,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "package": f"recbole-cdsr {__version__}",
    }
    text = json.dumps(sidecar, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        matrix_path.parent.mkdir(parents=True, exist_ok=True)
        if not _describes(sidecar_path, content_sha256):
            sidecar_path.unlink(missing_ok=True)  # from here to the last rename there is no such set
        with replacing(matrix_path, shared=True) as part:
            save_file(dict(tensors), part, metadata={"matrix_sha256": content_sha256})
        for suffix, lines in (texts or {}).items():
            with replacing(text_path(sidecar_path, suffix), shared=True) as part:
                part.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
        with replacing(sidecar_path, shared=True) as part:
            part.write_text(text, encoding="utf-8")
    except OSError as error:
        raise _unwritable(features_dir, error) from None
    return sidecar


def text_path(sidecar_path: Path, suffix: str) -> Path:
    """Where the further text file of a set lies."""
    return sidecar_path.with_name(f"{sidecar_path.name.removesuffix('.json')}.{suffix}")


def _describes(sidecar_path: Path, matrix_sha256: str) -> bool:
    """Whether another run has just made the very same set, which then stays readable while it is replaced."""
    try:
        return read_sidecar(sidecar_path).get("matrix_sha256") == matrix_sha256
    except FeatureError:
        return False


def read_sidecar(sidecar_path: Path) -> dict[str, Any]:
    """The sidecar of a feature set as plain data; FeatureError when it is missing or not a JSON object."""
    try:
        content = json.loads(sidecar_path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FeatureError(f"There is no feature set {sidecar_path}.") from None
    except (OSError, ValueError) as error:
        raise FeatureError(f"{sidecar_path} is not a JSON file ({error}); {remedy_for(sidecar_path)}.") from None
    if not isinstance(content, dict):
        raise FeatureError(f"{sidecar_path} is not a JSON object; {remedy_for(sidecar_path)}.")
    return content


def load_feature_set(
    features_dir: Path,
    kind: str,
    name: str,
    tokens: Sequence[str],
    *,
    expected: Mapping[str, Any] | None = None,
) -> FeatureSet:
    """Open a feature set and make sure that it is what it should be.

    Parameters
    ----------
    features_dir, kind, name
        As in `save_feature_set`.
    tokens : sequence of str
        The tokens whose rows it must hold, in this order.
    expected : mapping, optional
        What the sidecar must say, e.g. `texts_sha256`, `prompt_version`, `encoder`. Of a nested mapping only
        the keys given are compared. Keys whose expected value is None are not compared.

    Returns
    -------
    FeatureSet
        Its matrix is mapped into memory, not read.

    Raises
    ------
    FeatureError
        When the set is missing, damaged, not finite, or stale: naming the file, the field, the stored and the
        present value, and the remedy.
    """
    matrix_path, sidecar_path = feature_paths(features_dir, kind, name)
    sidecar = check_set(features_dir, kind, name, tokens, expected)
    remedy = remedy_for(sidecar_path)
    matrix = map_safetensors(matrix_path, "matrix")
    if matrix.dtype != np.float32 or list(matrix.shape) != sidecar.get("shape") or len(matrix) != len(tokens):
        raise FeatureError(
            f"{matrix_path} is {matrix.dtype} {list(matrix.shape)}, but float32 {sidecar.get('shape')} with "
            f"{len(tokens)} rows is needed; {remedy}."
        )
    check_finite(matrix, f"{matrix_path} holds", remedy)
    return FeatureSet(matrix, tokens, sidecar)


def check_set(
    features_dir: Path, kind: str, name: str, tokens: Sequence[str], expected: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The sidecar of a set that was made from what is at hand now, both files there and of one piece.

    Parameters
    ----------
    features_dir, kind, name, tokens, expected
        As in `load_feature_set`.

    Raises
    ------
    FeatureError
        As `load_feature_set`, but for the numbers themselves.
    """
    matrix_path, sidecar_path = feature_paths(features_dir, kind, name)
    sidecar = read_sidecar(sidecar_path)
    remedy = remedy_for(sidecar_path)
    if not matrix_path.is_file():
        raise FeatureError(f"{matrix_path} is missing although its sidecar is there; {remedy}.")
    wanted = {"format": FORMAT, "kind": kind, "tokens_sha256": hash_strings(tokens), **(expected or {})}
    differing = first_difference(sidecar, wanted)
    if differing:
        field, stored, now = differing
        raise FeatureError(
            f"{sidecar_path} is stale: {field} was {stored} when it was made and is {now} now; {remedy}."
        )
    _, metadata, _ = read_safetensors_header(matrix_path)
    if metadata.get("matrix_sha256") != sidecar.get("matrix_sha256"):
        raise FeatureError(f"{matrix_path} is not the matrix that {sidecar_path.name} describes; {remedy}.")
    return sidecar


def remedy_for(sidecar_path: Path) -> str:
    """What to do about a set that cannot be used."""
    matrix_name = sidecar_path.with_suffix(".safetensors").name
    return f"delete {matrix_name} and {sidecar_path.name}, and the next run builds them anew"


def first_difference(
    stored: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = ""
) -> tuple[str, str, str] | None:
    """The first field in which plain data is not as wanted: its name, what stands there, and what should.

    Of a nested mapping the wanted keys are compared; a wanted None is not.
    """
    for key, now in wanted.items():
        was = stored.get(key)
        if isinstance(now, Mapping):
            nested = first_difference(was if isinstance(was, Mapping) else {}, now, f"{prefix}{key}.")
            if nested:
                return nested
        elif now is not None and was != now:
            return f"{prefix}{key}", _shown(was), _shown(now)
    return None


def _shown(value: Any) -> str:
    text = str(value)
    return f"{text[:12]}…" if re.fullmatch(r"[0-9a-f]{64}", text) else text
