"""Language models on this machine: where their files are, what exactly they are, how they are loaded."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_cdsr.errors import FeatureError
from recbole_cdsr.llm.encoder_sources import (
    EncoderNotFoundError,
    files_sha256,
    holds_model,
    locate_on_hub,
    means_folder,
    weights_sha256,
)

_SETTING_NAMES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.*",
    "merges.txt",
    "chat_template.jinja",
)


@dataclass(frozen=True)
class LocalModel:
    """The files of a model of `transformers`.

    Attributes
    ----------
    name : str
        Hub name, or the folder's own name for a local path.
    folder : Path
        Weights, settings, tokenizer.
    revision : str or None
        Commit of the hub snapshot; None for a local path.
    """

    name: str
    folder: Path
    revision: str | None

    def identity(self) -> dict[str, str | None]:
        """`name`, `revision`, SHA-256 of the weights (None for the hub, whose commit says it) and of the settings."""
        settings = sorted({path for pattern in _SETTING_NAMES for path in self.folder.glob(pattern)})
        return {
            "name": self.name,
            "revision": self.revision,
            "weights_sha256": None if self.revision else weights_sha256(self.folder),
            "setup_sha256": files_sha256(settings),
        }


def local_model_name(name_or_path: str) -> str:
    """The name that a model's answers and features are filed under."""
    return Path(name_or_path).expanduser().resolve().name if means_folder(name_or_path) else name_or_path


def locate_model(key: str, name_or_path: str, download: bool = True) -> LocalModel:
    """Find a model of `transformers`: a folder, in the Hugging Face cache, or on the hub.

    Parameters
    ----------
    key
        The configuration key that names it, for messages.
    name_or_path
        Folder or hub name.
    download
        Whether the hub may be asked.

    Raises
    ------
    EncoderNotFoundError
        It is found nowhere.
    FeatureError
        The folder holds no model.
    """
    name = local_model_name(name_or_path)
    if means_folder(name_or_path):
        folder = Path(name_or_path).expanduser().resolve()
        if not folder.is_dir():
            raise EncoderNotFoundError(f"{key}: there is no folder {name_or_path}; give a folder or a hub name.")
        if not holds_model(folder):
            raise FeatureError(f"{key}: {folder} holds no model (no config.json and weights).")
        return LocalModel(name, folder, None)
    source = locate_on_hub(name, download, key)
    return LocalModel(source.name, source.folder, source.revision)


def load_tokenizer(key: str, model: LocalModel) -> Any:
    """The model's tokenizer; `FeatureError` when it cannot be loaded. No code from the folder is run."""
    from transformers import AutoTokenizer

    with loading(key, model, "tokenizer"):
        return AutoTokenizer.from_pretrained(model.folder, local_files_only=True, trust_remote_code=False)


def load_weights(key: str, model: LocalModel, auto_class: str, device: str, dtype: str, device_map: str | None) -> Any:
    """A model ready for inference.

    Parameters
    ----------
    key
        The configuration key that names the model.
    model
        Where it is.
    auto_class : {"AutoModelForCausalLM", "AutoModel"}
        With or without the head that writes.
    device
        Where it computes, without a device map.
    dtype : {"auto", "bfloat16", "float16", "float32"}
        `auto` is bfloat16 on a GPU that has it, and float32 elsewhere.
    device_map : str or None
        As `transformers` takes it, such as `auto`; needs accelerate.

    Raises
    ------
    FeatureError
        It cannot be loaded.
    """
    import torch
    import transformers

    chosen = getattr(torch, resolved_dtype(dtype, device if device_map is None else "cuda"))
    arguments: dict[str, Any] = {"dtype": chosen, "local_files_only": True, "trust_remote_code": False}
    if device_map is not None:
        if importlib.util.find_spec("accelerate") is None:
            raise FeatureError(
                "llm_device_map spreads a model with accelerate, which is not installed; install it with "
                "pip install 'recbole-cdsr[local-llm]', or remove llm_device_map."
            )
        arguments["device_map"] = device_map
    with loading(key, model, "model"):
        loaded = getattr(transformers, auto_class).from_pretrained(model.folder, **arguments)
        if device_map is None:
            loaded = loaded.to(device)
    return loaded.eval().requires_grad_(False)


class OnFirstUse:
    """A model and its tokenizer, each loaded when it is first asked for; parameters as `load_weights` takes them.

    Attributes
    ----------
    dtype : str
        The number format that the model will have.
    """

    def __init__(
        self, key: str, source: LocalModel, auto_class: str, device: str, dtype: str, device_map: str | None
    ) -> None:
        self.dtype = resolved_dtype(dtype, device if device_map is None else "cuda")
        self._key, self._source = key, source
        self._how = (auto_class, device, self.dtype, device_map)
        self._tokenizer: Any = None
        self._model: Any = None

    def tokenizer(self) -> Any:
        """As `load_tokenizer` gives it."""
        if self._tokenizer is None:
            self._tokenizer = load_tokenizer(self._key, self._source)
        return self._tokenizer

    def model(self) -> Any:
        """As `load_weights` gives it."""
        if self._model is None:
            self._model = load_weights(self._key, self._source, *self._how)
        return self._model


def resolved_dtype(dtype: str, device: str) -> str:
    """The number format that `auto` means on a device."""
    import torch

    if dtype != "auto":
        return dtype
    on_gpu = device.startswith("cuda") and torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return "bfloat16" if on_gpu else "float32"


@contextmanager
def loading(key: str, model: LocalModel, what: str) -> Iterator[None]:
    """One line for whatever a broken folder makes the libraries below raise, and none of their loading bars."""
    from transformers.utils import logging as transformers_logging

    bars, verbosity = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        yield
    except FeatureError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise FeatureError(
            f"{key}: {model.folder} cannot be loaded as a {what} of transformers ({type(error).__name__}: {reason})."
        ) from None
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


def in_halves(
    batch: Sequence[Any], compute: Callable[[Sequence[Any]], list[Any]], too_large: Callable[[Any], str]
) -> list[Any]:
    """Compute a batch without gradients; in halves where the device has not the memory for all of it.

    Parameters
    ----------
    batch
        Texts or prompts, at least one.
    compute
        From some of them to a list; the lists of halves are joined.
    too_large
        What to say, in a sentence, of a single one that does not fit.

    Raises
    ------
    FeatureError
        A single one does not fit.
    """
    import torch

    with suppress(torch.OutOfMemoryError), torch.inference_mode():
        return compute(batch)
    # Not inside an `except`: the error would keep alive what has to be given back.
    torch.cuda.empty_cache()
    if len(batch) == 1:
        raise FeatureError(too_large(batch[0]))
    half = len(batch) // 2
    return in_halves(batch[:half], compute, too_large) + in_halves(batch[half:], compute, too_large)


def library() -> str:
    """Name and version of the library that computes, for provenance."""
    return f"transformers {importlib.metadata.version('transformers')}"


def longest_prompt(model: Any) -> int | None:
    """Positions that a loaded model has; None where its configuration names no bound."""
    positions = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)
    return positions if isinstance(positions, int) and positions > 0 else None


def padded(rows: Sequence[Sequence[int]], pad_id: int, left: bool) -> tuple[Any, Any]:
    """Token ids and attention mask, both int64 `[B, L]`, L the longest row; padding on the left or on the right."""
    import torch

    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), pad_id)  # [B, L]
    mask = torch.zeros_like(ids)  # [B, L]
    for place, row in enumerate(rows):
        span = slice(longest - len(row), longest) if left else slice(0, len(row))
        ids[place, span] = torch.tensor(row, dtype=torch.int64)
        mask[place, span] = 1
    return ids, mask


def pad_token(tokenizer: Any) -> int:
    """Some id to pad with; what stands there is never looked at."""
    known = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return next(token for token in known if token is not None)
