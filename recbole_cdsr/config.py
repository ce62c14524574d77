"""`CDSRConfig`: RecBole's Config that finds our models and settings, evaluates nothing and says what is wrong.

Precedence, highest first: command line, `config_dict`, config files (the later file), our dataset YAML, our model
YAML, our overall YAML, RecBole's own YAML as RecBole loads it. Our overall YAML holds the shared protocol only, so
that RecBole's baselines keep their own hyper-parameters.
"""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from logging import Logger, getLogger
from typing import Any

from recbole.config import Config
from recbole.utils import ModelType

from recbole_cdsr import config_checks as checks
from recbole_cdsr import config_evaluation as evaluation
from recbole_cdsr import config_negatives as negatives
from recbole_cdsr import config_saved
from recbole_cdsr.config_names import (
    LAUNCHER_KEYS,
    OUR_MODELS,
    check_folder_name,
    data_folder,
    did_you_mean,
    find_model_class,
    keys_of_models,
    known_keys,
    near_matches,
    props_file,
)
from recbole_cdsr.config_values import (
    ConfigLoader,
    Plain,
    Setting,
    parse_command_line,
    parse_text,
    plain_copy,
    read_config_file,
    split_config_files,
)
from recbole_cdsr.errors import ConfigError
from recbole_cdsr.model.injection_settings import check_injection

__all__ = ["OUR_MODELS", "CDSRConfig", "split_config_files"]

DEEP_MERGED = ("eval_args", "load_col")
# RecBole unpickles `<checkpoint_dir>/<dataset>-<class>.pth` when it finds one and is given no other place. Nothing can
# lie below the null device, so that it finds none.
NO_PICKLE = os.path.join(os.devnull, "pickles-are-not-read")


class _TypedValues(dict[str, Any]):
    """Values that have their types already, so that a text in them stays a text."""


class CDSRConfig(Config):
    """All settings of one run.

    Parameters
    ----------
    model
        Name of one of our models or of RecBole's, or a model class; None takes it from the settings.
    dataset
        Name of the dataset; None takes it from the settings.
    config_file_list
        YAML files, the later over the earlier.
    config_dict
        Settings; strings in it are read as on the command line. A `Setting` brings its origin along.
    command_line
        Arguments `--key=value`. None takes `sys.argv[1:]`, as RecBole does; those belong to whatever program is
        running, so what is not of that form is then only reported in `warnings`. `[]` stands for none.

    Attributes
    ----------
    warnings
        What is probably a mistake, such as an unknown key with the nearest known one, or what the model doubts.
    notices
        What was decided about a setting of the user's.

    Raises
    ------
    ConfigError
        On anything that cannot be honoured, naming the key, the value and where it came from.
    """

    def __init__(
        self,
        model: str | type | None = None,
        dataset: str | None = None,
        config_file_list: str | Sequence[str] | None = None,
        config_dict: Mapping[str, Any] | None = None,
        command_line: Sequence[str] | None = None,
    ) -> None:
        self.warnings: list[str] = []
        self.notices: list[str] = []
        self._logged = False
        self._command_line = command_line
        self._settings: dict[str, Setting] = {}
        super().__init__(model, dataset, split_config_files(config_file_list), config_dict)
        for key in LAUNCHER_KEYS:
            self.final_config_dict.pop(key, None)
        self.final_config_dict["dataset_save_path"] = NO_PICKLE
        self.final_config_dict["dataloaders_save_path"] = NO_PICKLE
        # RecBole's transforms and datasets put entries of their own into a configuration later on.
        self._keys = frozenset(self.final_config_dict)
        self._warn_of_unknown_keys()

    # -- reading ------------------------------------------------------------------------------------------------

    def _init_parameters_category(self) -> None:
        super()._init_parameters_category()
        # RecBole appends to these lists, which belong to its module and not to one configuration.
        self.parameters = {category: list(keys) for category, keys in self.parameters.items()}
        ours = read_config_file(props_file("overall")).settings
        known = {key for keys in self.parameters.values() for key in keys}
        self.parameters["Cross-domain"] = [key for key in ours if key not in known]

    def _build_yaml_loader(self) -> type[ConfigLoader]:
        return ConfigLoader

    def _convert_config_dict(self, config_dict: dict[str, Any]) -> dict[str, Any]:
        return {key: parse_text(value) if isinstance(value, str) else value for key, value in config_dict.items()}

    def _load_config_files(self, file_list: Sequence[str] | None) -> dict[str, Any]:
        for file in file_list or []:
            found = read_config_file(file)
            self.warnings += found.remarks
            self._take(found.settings)
        return {key: setting.value for key, setting in self._settings.items()}

    def _load_variable_config_dict(self, config_dict: Mapping[str, Any] | None) -> dict[str, Any]:
        if config_dict is not None and not isinstance(config_dict, Mapping):
            raise ConfigError(f"config_dict is {type(config_dict).__name__}; it must be a mapping of keys to values.")
        typed = isinstance(config_dict, _TypedValues)
        settings = {}
        for key, value in (config_dict or {}).items():
            if not isinstance(key, str):
                raise ConfigError(f"config_dict has the key {key!r}; keys must be strings.")
            if isinstance(value, Setting):  # it says itself where it came from
                settings[key] = value
            elif isinstance(value, str) and not typed:
                settings[key] = Setting.from_text(value, "config_dict")
            elif key == "model" and isinstance(value, type):
                settings[key] = Setting(value, "config_dict")
            else:
                try:
                    settings[key] = Setting(plain_copy(value), "config_dict")
                except ValueError as error:
                    raise ConfigError(f"{key} from config_dict cannot be used: {error}.") from None
        self._take(settings)
        return {key: setting.value for key, setting in settings.items()}

    def _load_cmd_line(self) -> dict[str, Any]:
        arguments = self._command_line
        if arguments is None:
            # A notebook's kernel is started with arguments of its own.
            arguments = [] if "ipykernel_launcher" in sys.argv[0] else sys.argv[1:]
        texts, faults = parse_command_line(arguments)
        if faults and self._command_line is not None:
            raise ConfigError(f"{faults[0]}.")
        self.warnings += [f"Command-line argument ignored: {sentence}." for sentence in faults]
        settings = {key: Setting.from_text(text, "the command line") for key, text in texts.items()}
        self._take(settings)
        return {key: setting.value for key, setting in settings.items()}

    def _take(self, settings: Mapping[str, Setting]) -> None:
        """Put settings over those taken before; mappings that are known to be merged are."""
        for key, setting in settings.items():
            earlier = self._settings.get(key)
            if key in DEEP_MERGED and earlier and isinstance(earlier.value, dict) and isinstance(setting.value, dict):
                setting = Setting({**earlier.value, **setting.value}, setting.origin)
            self._settings[key] = setting

    def _merge_external_config_dict(self) -> None:
        checks.check_refused(self._settings)
        self.external_config_dict = {key: setting.value for key, setting in self._settings.items()}

    def _get_model_and_dataset(self, model: str | type | None, dataset: str | None) -> tuple[str, type, str]:
        named = {}
        for key, given in (("model", model), ("dataset", dataset)):
            named[key] = given if given is not None else self._name_from_settings(key)
        dataset = check_folder_name(named["dataset"])
        if isinstance(named["model"], type):
            return named["model"].__name__, named["model"], dataset
        if not isinstance(named["model"], str):
            raise ConfigError(f"model is {named['model']!r}; it must be the name of a model, or its class.")
        return named["model"], find_model_class(named["model"]), dataset

    def _name_from_settings(self, key: str) -> Any:
        setting = self._settings.get(key)
        if setting is None or setting.value is None:
            raise ConfigError(f"No {key} is named; write --{key}=<name>, or set {key} in a config file.")
        return setting.value if isinstance(setting.value, type) else checks.typed_value(key, setting, {})

    def _load_internal_config_dict(self, model: str, model_class: type, dataset: str) -> None:
        super()._load_internal_config_dict(model, model_class, dataset)
        defaults = self.internal_config_dict
        if defaults["MODEL_TYPE"] == ModelType.DECISIONTREE:
            raise ConfigError(f"{model} learns from labels and the protocol ranks candidates; choose another model.")
        if defaults["MODEL_TYPE"] == ModelType.CONTEXT:
            # RecBole trains these on labelled rows; interactions have no label here, so negatives are drawn.
            defaults["train_neg_sample_args"] = {"distribution": "uniform"}
        files = [props_file("overall"), props_file("dataset", dataset)]
        if model in OUR_MODELS:
            files.insert(1, props_file("model", model))
        for file in files:
            if file is None:
                continue
            for key, setting in read_config_file(file).settings.items():
                if key in DEEP_MERGED and isinstance(defaults.get(key), dict):
                    defaults[key] = {**defaults[key], **setting.value}
                else:
                    defaults[key] = setting.value

    # -- deciding -----------------------------------------------------------------------------------------------

    def _get_final_config_dict(self) -> dict[str, Any]:
        final = copy.deepcopy(self.internal_config_dict)
        self._defaults = self.internal_config_dict
        for key, setting in self._settings.items():
            if key in ("model", "dataset", *LAUNCHER_KEYS):
                continue
            value = checks.typed_value(key, setting, self._defaults)
            if key == "load_col":
                value = self._load_col(setting)
            final[key] = value
        if "load_col" not in self._settings:
            final["load_col"] = self._completed(final["load_col"])[0]
        return final

    def _load_col(self, setting: Setting) -> dict[str, Any] | None:
        value = setting.value
        if value is None:
            return None
        if not isinstance(value, dict):
            raise checks.fault("load_col", setting, "a mapping of file suffixes to lists of columns")
        merged, added = self._completed({**(self._defaults.get("load_col") or {}), **value})
        for suffix, missing in added.items():
            self.notices.append(f"load_col.{suffix}: {', '.join(missing)} added, which the protocol needs.")
        return merged

    def _completed(self, load_col: Any) -> tuple[Any, dict[str, list[str]]]:
        """`load_col` with the columns that the protocol needs under their names here, and those added by suffix."""
        required = {
            "inter": ["USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD"],
            "item": ["ITEM_ID_FIELD", "DOMAIN_FIELD"],
        }
        completed, added = load_col, {}
        for suffix, fields in required.items():
            columns = load_col.get(suffix) if isinstance(load_col, dict) else None
            if not isinstance(columns, list):
                continue
            names = [self._settings[f].value if f in self._settings else self._defaults[f] for f in fields]
            if missing := [name for name in names if name not in columns]:
                completed = {**completed, suffix: [*columns, *missing]}
                added[suffix] = missing
        return completed, added

    def _set_default_parameters(self) -> None:
        final = self.final_config_dict
        checks.check_model_reads_no_pickle(self.model, final)
        checks.check_fields_have_own_names(final, self._settings)
        self._settle_evaluation(final)
        final["train_neg_sample_args"] = negatives.settled(
            self.model,
            self.model_class,
            final,
            self._effective("train_neg_sample_args"),
            "train_neg_sample_args" in self._settings,
            self.notices,
        )
        self.warnings += negatives.unknown_keys(final["train_neg_sample_args"])
        self._settle_rows(final)
        self._settle_patience(final)
        with checks.locating(self._settings):
            self.notices += check_injection(self.model, self.model_class, final)
            if hasattr(self.model_class, "doubtful_settings"):
                self.warnings += self.model_class.doubtful_settings(final)
        self._data_root = final["data_path"]
        try:
            super()._set_default_parameters()
        except (ValueError, TypeError, RuntimeError, NotImplementedError) as error:
            raise ConfigError(str(error)) from None
        if self.dataset != "ml-100k":  # RecBole brings that one along
            final["data_path"] = data_folder(self._data_root, self.dataset)
        self._data_folder = final["data_path"]

    @property
    def given(self) -> Mapping[str, Setting]:
        """What the user gave, by key, with where it came from."""
        return self._settings

    def _effective(self, key: str) -> Setting:
        """What holds for a key, in the kind of its default, with where it came from."""
        value = self.final_config_dict.get(key)
        return replace(self._settings[key], value=value) if key in self._settings else Setting(value, "the defaults")

    def _settle_evaluation(self, final: dict[str, Any]) -> None:
        eval_args = dict(self._defaults["eval_args"])
        candidates = None
        if "eval_args" in self._settings:
            given, candidates, unknown = evaluation.check_eval_args(self._settings["eval_args"])
            eval_args.update(given)
            for key in unknown:
                hint = did_you_mean(key, ["split", "order", "group_by", "mode"], 1)
                self.warnings.append(f"eval_args.{key} means nothing{hint}")
        # RecBole's sampled loader scores every row N + 1 times; candidates are read off the full scores instead.
        final["eval_args"] = {**eval_args, "mode": {"valid": "full", "test": "full"}}
        if candidates is not None and "eval_candidates" not in self._settings:
            final["eval_candidates"] = candidates
            if candidates != ["full"]:
                self.notices.append(f"eval_args.mode is read as eval_candidates: [{', '.join(candidates)}].")
        else:
            final["eval_candidates"] = evaluation.check_eval_candidates(self._effective("eval_candidates"))
            if candidates is not None and candidates != final["eval_candidates"]:
                where = checks.as_origin(self._settings["eval_candidates"].origin)
                self.warnings.append(f"eval_args.mode is not used, for eval_candidates is given ({where}).")
        final["metrics"] = evaluation.check_metrics(self._effective("metrics"))
        final["topk"] = evaluation.check_topk(self._effective("topk"))
        evaluation.check_tail_ratio(self._settings.get("tail_ratio"), final["metrics"])
        final["valid_metric"] = evaluation.check_valid_metric(
            self._effective("valid_metric"), final["metrics"], final["topk"], final["select"]
        )

    def _settle_rows(self, final: dict[str, Any]) -> None:
        if final["MODEL_TYPE"] == ModelType.SEQUENTIAL and not final["repeatable"]:
            where = checks.as_origin(self._effective("repeatable").origin)
            raise ConfigError(f"repeatable is False {where}, but {self.model} is sequential; remove it.")
        if final["filter_inter_by_user_or_item"]:
            self.notices.append(
                "filter_inter_by_user_or_item is kept False: an interaction whose item .item lacks is an error here, "
                "and no row is dropped unseen."
            )
            final["filter_inter_by_user_or_item"] = False

    def _settle_patience(self, final: dict[str, Any]) -> None:
        # Whoever says how many validations to wait means it, whatever a model's YAML adds for its own number.
        for stage in ("", "pretrain_"):
            if f"{stage}stopping_step" in self._settings and f"{stage}stopping_updates" not in self._settings:
                final[f"{stage}stopping_updates"] = 0

    def _init_device(self) -> None:
        super()._init_device()
        if not self.final_config_dict["use_gpu"]:
            import torch

            # RecBole looks at gpu_id alone.
            self.final_config_dict["device"] = torch.device("cpu")

    # -- telling ------------------------------------------------------------------------------------------------

    def _warn_of_unknown_keys(self) -> None:
        for key, setting in self._settings.items():
            if self.model in OUR_MODELS and key not in self._defaults and key in keys_of_models():
                # Our YAML names everything that our models read.
                where = checks.as_origin(setting.origin)
                self.warnings.append(f"{key} ({where}) is a setting of other models; {self.model} does not read it.")
            if key in self._defaults or key in known_keys():
                continue
            near = near_matches(key, self._defaults, 1) or near_matches(key, known_keys(), 1)
            hint = f"; did you mean {near[0]}?" if near else "."
            self.warnings.append(f"{key} ({checks.as_origin(setting.origin)}) is not a known setting{hint}")

    def log_notices(self, logger: Logger | None = None) -> None:
        """Log `warnings` as warnings and `notices` as information."""
        logger = logger or getLogger()
        for sentence in self.warnings:
            logger.warning(sentence)
        for sentence in self.notices:
            logger.info(sentence)
        self._logged = True

    def __str__(self) -> str:
        told = [] if self._logged else [*self.warnings, *self.notices]
        return super().__str__() + "".join(f"Note: {sentence}\n" for sentence in told)

    # -- saving -------------------------------------------------------------------------------------------------

    def plain(self) -> dict[str, Plain]:
        """The configuration as plain data: what JSON, YAML and `torch.load(weights_only=True)` can carry.

        What follows from the rest (device, enumerations, the loaders' arguments) is left out, and `data_path` is the
        folder of datasets as it was given, so that the configuration means the same on another machine.
        """
        settings = {key: value for key, value in self.final_config_dict.items() if key in self._keys}
        return config_saved.plain_settings(settings, self._data_folder, self._data_root)

    @classmethod
    def from_plain(cls, values: Mapping[str, Any], command_line: Sequence[str] = ()) -> CDSRConfig:
        """Rebuild a configuration from `plain()`; its values are checked like any others.

        Parameters
        ----------
        values
            What `plain` gave; `model` may be a class of one's own in the place of its name.
        command_line
            Arguments `--key=value` that win over them.

        Raises
        ------
        ConfigError
            The values are no configuration, or one that cannot be honoured.
        """
        kinds = {"model": str | type, "dataset": str}
        if not isinstance(values, Mapping) or not all(isinstance(values.get(key), kinds[key]) for key in kinds):
            raise ConfigError("This is not a saved configuration: it names no model and dataset.")
        settings = _TypedValues({key: value for key, value in values.items() if key not in config_saved.DERIVED})
        config = cls(values["model"], values["dataset"], config_dict=settings, command_line=command_line)
        config.warnings.clear()
        config.notices.clear()
        return config

    def fingerprint(self) -> str:
        """8 hexadecimal digits that agree for two configurations whose training is the same.

        How long to train, where files lie, the device and what is merely reported do not count; of `eval_candidates`
        only the entry that selects the model does.
        """
        return config_saved.fingerprint(self.plain())
