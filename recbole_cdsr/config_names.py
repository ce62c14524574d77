"""What names mean something: our models and RecBole's, configuration keys, props files, the data folder."""

from __future__ import annotations

import difflib
import functools
import importlib
import os
import re
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

from recbole_cdsr.errors import ConfigError

# The one list of our models: name -> module.
OUR_MODELS: dict[str, str] = {
    "LLM4CDSR": "recbole_cdsr.model.llm4cdsr",
    "LLMCDSR": "recbole_cdsr.model.llmcdsr",
    "LeCDSR": "recbole_cdsr.model.lecdsr",
    "SASRecBCE": "recbole_cdsr.model.sasrecbce",
}

# Those of them with a trainer of their own, `<Model>Trainer`: name -> module.
OUR_TRAINERS: dict[str, str] = {
    "LLMCDSR": "recbole_cdsr.trainer.llmcdsr_trainer",
}

# Read by the command line or by RecBole's launcher, never by a model; accepted and not kept.
LAUNCHER_KEYS = frozenset({"config_files", "nproc", "ip", "port", "world_size", "group_offset", "offset"})


# Names beyond so many, such as the users of a large dataset, are not compared with every one of them.
_COMPARED_AT_MOST = 50_000


def near_matches(word: str, candidates: Iterable[str], count: int = 3) -> list[str]:
    """Up to `count` of `candidates` that `word` may have meant, nearest first; upper and lower case are equal.

    None among very many candidates, which would take seconds.
    """
    by_lower: dict[str, str] = {}
    candidates = list(candidates)
    if len(candidates) > _COMPARED_AT_MOST:
        return []
    for candidate in sorted(candidates):
        by_lower.setdefault(candidate.lower(), candidate)
    found = difflib.get_close_matches(word.lower(), by_lower, n=count, cutoff=0.6)
    return [by_lower[name] for name in found]


def did_you_mean(word: str, candidates: Iterable[str], count: int = 3) -> str:
    """`; did you mean A, B or C?`, or a full stop when nothing is near."""
    found = near_matches(word, candidates, count)
    if not found:
        return "."
    return f"; did you mean {' or '.join([', '.join(found[:-1]), found[-1]] if found[1:] else found)}?"


def recbole_folder() -> Path:
    """RecBole's installed source."""
    import recbole

    return Path(recbole.__file__).parent


def checkout_folder() -> Path:
    """The folder that holds the package: the repository root in a checkout."""
    return Path(__file__).resolve().parent.parent


@functools.cache
def props_folder() -> Path:
    """Our YAML files: `recbole_cdsr/props` in an installed wheel, `props` beside the package in a checkout."""
    packaged = resources.files("recbole_cdsr").joinpath("props")
    return Path(str(packaged)) if packaged.is_dir() else checkout_folder() / "props"


def props_file(*parts: str) -> Path | None:
    """One of our YAML files, e.g. `props_file("model", "LLM4CDSR")`; None where there is none of that name."""
    path = props_folder().joinpath(*parts[:-1], f"{parts[-1]}.yaml")
    return path if path.is_file() else None


@functools.cache
def recbole_models() -> dict[str, str]:
    """RecBole's models, name -> subpackage, read off the names of its files and classes without importing any."""
    found = {}
    for path in sorted(recbole_folder().glob("model/*_recommender/*.py")):
        for name in re.findall(r"^class\s+(\w+)\s*\(", path.read_text(encoding="utf-8"), re.MULTILINE):
            if name.lower() == path.stem:
                found[name] = path.parent.name
    return found


def find_model_class(name: str) -> type:
    """The class of a model, ours or RecBole's.

    Raises
    ------
    ConfigError
        No such model (with near matches), one that cannot be judged here, or one that lacks a package.
    """
    if name in OUR_MODELS:
        return getattr(importlib.import_module(OUR_MODELS[name]), name)
    # Not through RecBole's get_model: looking for a name it does not have imports packages that may be missing.
    package = recbole_models().get(name)
    if package is None:
        hint = did_you_mean(name, [*OUR_MODELS, *recbole_models()])
        raise ConfigError(f"There is no model named {name!r}{hint}")
    if package == "exlib_recommender":
        raise ConfigError(f"{name} learns from labels and the protocol ranks candidates; choose another model.")
    try:
        return getattr(importlib.import_module(f"recbole.model.{package}.{name.lower()}"), name)
    except ModuleNotFoundError as error:
        raise ConfigError(f"The model {name} needs the package {error.name}; install it.") from None


@functools.cache
def known_keys() -> frozenset[str]:
    """Every configuration key that RecBole or this package states a default for or reads anywhere."""
    from recbole.utils import dataset_arguments, evaluation_arguments, general_arguments, training_arguments

    keys = {"model", "dataset", *LAUNCHER_KEYS}
    keys.update(general_arguments, training_arguments, evaluation_arguments, dataset_arguments)
    urls = {"url.yaml", "kg_url.yaml"}  # names of data sets, not of settings
    for folder in (recbole_folder() / "properties", props_folder()):
        for path in folder.rglob("*.yaml"):
            if path.name not in urls:
                keys |= _keys_of_file(path)
    for folder in (recbole_folder(), Path(__file__).parent):
        for path in folder.rglob("*.py"):
            keys.update(re.findall(r"config\[[\"']([\w-]+)[\"']\]", path.read_text(encoding="utf-8")))
    return frozenset(keys)


@functools.cache
def keys_of_models() -> frozenset[str]:
    """Every key that the YAML of some model, RecBole's or ours, states a default for."""
    folders = (recbole_folder() / "properties" / "model", props_folder() / "model")
    return frozenset().union(*(_keys_of_file(path) for folder in folders for path in folder.glob("*.yaml")))


def _keys_of_file(path: Path) -> set[str]:
    """The keys at the left edge of a YAML file."""
    return set(re.findall(r"^([A-Za-z_][\w-]*)\s*:", path.read_text(encoding="utf-8"), re.MULTILINE))


def data_folder(root: str | os.PathLike[str], dataset: str) -> str:
    """Where the atomic files of `dataset` lie: `<root>/<dataset>`.

    A relative `root` counts from the working directory; where that holds no such dataset, from the checkout.
    """
    here = os.path.join(root, dataset)
    if os.path.isabs(root) or os.path.isdir(here):
        return here
    beside = checkout_folder() / root / dataset
    return str(beside) if beside.is_dir() else here


def dataset_folders(root: str | os.PathLike[str]) -> list[str]:
    """Names of the datasets that `data_folder` finds below `root`, in their order."""
    roots = [Path(root)] if os.path.isabs(root) else [Path(root), checkout_folder() / root]
    return sorted({file.stem for place in roots for file in place.glob("*/*.item") if file.stem == file.parent.name})


def check_folder_name(name: Any) -> str:
    """A dataset is read from a folder of its name; a path would also reach for other props files.

    What a dataset to be written may be called is for `data.atomic.check_dataset_name` to say.
    """
    if not isinstance(name, str) or not name or name in (".", "..") or re.search(r"[/\\\0]", name):
        raise ConfigError(
            f"dataset: {name!r} is not the name of a folder; give the folder's name as dataset and the folder it "
            "lies in as data_path."
        )
    return name
