"""Make our models known to RecBole itself, so that its own entry points take them by name.

After `register()`, `recbole.quick_start.run_recbole(model="LLM4CDSR", ...)`, `recbole.config.Config`,
`recbole.utils.get_model`, `recbole.utils.get_trainer` and `recbole.data.create_dataset` work for our models. RecBole
looks for `recbole.model.<kind>.<name>`, `recbole.data.dataset.<Name>Dataset` and `recbole.trainer.<Name>Trainer`, and
makes its `Config` itself; each of these gets an entry for each of our models, and nothing of RecBole's is replaced.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from recbole_cdsr.config_names import OUR_MODELS
from recbole_cdsr.config_values import parse_command_line, read_config_file, split_config_files
from recbole_cdsr.errors import ConfigError

PACKAGE = "recbole.model.sequential_recommender"


class _AliasModule(ModuleType):
    """A module under another name, imported when something of it is asked for."""

    def __init__(self, name: str, target: str) -> None:
        super().__init__(name, f"The same as {target}.")
        self._target = target

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what the import system probes for must not import anything
            raise AttributeError(name)
        return getattr(importlib.import_module(self._target), name)

    def __dir__(self) -> list[str]:
        return dir(importlib.import_module(self._target))


class _AliasLoader(Loader):
    """Gives `importlib.util.find_spec`, through which RecBole looks for models, a complete specification."""

    def __init__(self, target: str) -> None:
        self._target = target

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _AliasModule(spec.name, self._target)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is run: the module passes on what the real one has."""


def register() -> None:
    """Make our models known to RecBole; does nothing the second time.

    RecBole's own models, datasets, trainers and its `Config` for them stay as they are.
    """
    from recbole.config import Config
    from recbole.utils import ModelType

    from recbole_cdsr.data.dataset import CrossDomainSequentialDataset
    from recbole_cdsr.trainer import trainer_class_for

    package = importlib.import_module(PACKAGE)
    datasets = importlib.import_module("recbole.data.dataset")
    trainers = importlib.import_module("recbole.trainer")
    for name, target in OUR_MODELS.items():
        alias = f"{PACKAGE}.{name.lower()}"
        if alias not in sys.modules:
            loader = _AliasLoader(target)
            spec = ModuleSpec(alias, loader, origin=target)
            module = loader.create_module(spec)
            module.__spec__, module.__loader__, module.__package__ = spec, loader, PACKAGE
            sys.modules[alias] = module
            setattr(package, name.lower(), module)
        setattr(datasets, f"{name}Dataset", CrossDomainSequentialDataset)
        setattr(trainers, f"{name}Trainer", trainer_class_for(ModelType.SEQUENTIAL, name))
    if "__new__" not in vars(Config):
        Config.__new__ = staticmethod(_new_config)


def _new_config(
    cls: type,
    model: str | type | None = None,
    dataset: str | None = None,
    config_file_list: Sequence[str] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    *further: Any,
    **named: Any,
) -> Any:
    """`Config.__new__`: an object of `CDSRConfig` for our models, of the class that was called for all others.

    Python then calls the `__init__` of the object's own class with the same arguments.
    """
    from recbole.config import Config

    from recbole_cdsr.config import CDSRConfig

    if cls is Config and requested_model(model, config_file_list, config_dict) in OUR_MODELS:
        return object.__new__(CDSRConfig)
    return object.__new__(cls)


def requested_model(
    model: str | type | None,
    config_file_list: Sequence[str] | None,
    config_dict: Mapping[str, Any] | None,
) -> str | None:
    """The name of the model that `Config(model, ...)` would settle on, by RecBole's precedence; None if there is none.

    Files that cannot be read are passed over: it is for the Config to say what is wrong with them.
    """
    if model is None:
        model = _named_in_settings(config_file_list, config_dict)
    if isinstance(model, type):
        ours = OUR_MODELS.get(model.__name__) == model.__module__
        return model.__name__ if ours else None
    return model if isinstance(model, str) else None


def _named_in_settings(config_file_list: Sequence[str] | None, config_dict: Mapping[str, Any] | None) -> Any:
    try:
        texts, _ = parse_command_line([] if "ipykernel_launcher" in sys.argv[0] else sys.argv[1:])
    except ConfigError:
        texts = {}
    if "model" in texts:
        return texts["model"]
    if config_dict and "model" in config_dict:
        return config_dict["model"]
    for file in reversed(split_config_files(config_file_list)):
        try:
            settings = read_config_file(file).settings
        except ConfigError:
            continue
        if "model" in settings:
            return settings["model"].value
    return None
