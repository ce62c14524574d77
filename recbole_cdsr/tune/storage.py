"""Opening a study: a SQLite file or a database server, shared by every process that is given the same one."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna import Study
from optuna.exceptions import OptunaError
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from recbole_cdsr.config import CDSRConfig
from recbole_cdsr.config_saved import NOT_TRAINING, is_off
from recbole_cdsr.errors import ConfigError
from recbole_cdsr.tune.space import Space

SETTINGS = "settings"
_BUSY_SECONDS = 60  # SQLite lets one process write at a time
_ATTEMPTS = 4


class Storage:
    """A database of studies.

    Parameters
    ----------
    given
        A SQLAlchemy URL, or the path of a SQLite file, which is made when it is not there.
    grace_period
        Seconds of silence after which a process that cannot be looked at is taken for dead.

    Attributes
    ----------
    shown
        The URL without its password.

    Raises
    ------
    ConfigError
        The URL cannot be read, its driver is not installed, or it names a database that no other process could see.
    """

    def __init__(self, given: str, grace_period: int) -> None:
        self.grace_period = grace_period
        try:
            # A path is no part of a URL: `?` and `%` are characters of it.
            self._url = make_url(given) if "://" in given else URL.create("sqlite", database=given)
        except (ArgumentError, ValueError):  # the text may hold a password
            raise ConfigError(
                "--storage is no URL; write the path of a file, or such as postgresql://user@host/database."
            ) from None
        self.shown = self._url.render_as_string(hide_password=True)
        self._is_file = self._url.get_backend_name() == "sqlite"
        if self._is_file and self._url.database in (None, "", ":memory:"):
            raise ConfigError(f"--storage {self.shown} lies in the memory of one process; name a file.")
        try:
            self._url.get_dialect().import_dbapi()
        except NoSuchModuleError:
            raise ConfigError(f"--storage {self.shown} names no database that SQLAlchemy knows.") from None
        except ImportError as error:
            raise ConfigError(
                f"--storage {self.shown} needs the package {error.name}; install it, or name another driver, such as "
                "postgresql+psycopg://..."
            ) from None

    def open(
        self,
        name: str,
        settings: Mapping[str, Any],
        defaults: Mapping[str, Any],
        maximise: bool,
        sampler: BaseSampler,
        pruner: BasePruner,
    ) -> Study:
        """Open the study of that name, or begin it.

        Parameters
        ----------
        name
            Of the study.
        settings
            `study_settings`, which must be those that the study was begun with.
        defaults
            What the configuration would hold if nobody set anything.
        maximise
            Whether more is better.
        sampler, pruner
            Of this process.

        Raises
        ------
        ConfigError
            The database cannot be used, or the study was begun with other settings.
        """
        try:
            if self._is_file:
                Path(self._url.database).parent.mkdir(parents=True, exist_ok=True)
            study = self._opened(name, maximise, sampler, pruner)
            if SETTINGS not in study.user_attrs:
                study.set_user_attr(SETTINGS, dict(settings))
        except (SQLAlchemyError, OptunaError, RuntimeError, OSError) as error:
            raise ConfigError(
                f"The storage {self.shown} cannot be used ({reason_of(error)}); name another with --storage, or "
                "another --output."
            ) from error
        _check_settings(study, settings, defaults)
        return study

    def _opened(self, name: str, maximise: bool, sampler: BaseSampler, pruner: BasePruner) -> Study:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                storage = RDBStorage(
                    # Optuna takes it for a template.
                    self._url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}"),
                    engine_kwargs={"connect_args": {"timeout": _BUSY_SECONDS}} if self._is_file else None,
                    heartbeat_interval=max(1, self.grace_period // 4),
                    grace_period=self.grace_period,
                )
                return optuna.create_study(
                    storage=storage,
                    study_name=name,
                    direction="maximize" if maximise else "minimize",
                    sampler=sampler,
                    pruner=pruner,
                    load_if_exists=True,
                )
            except (SQLAlchemyError, OptunaError, RuntimeError):
                # Processes that begin at once make the same tables; all but one of them find these half made.
                if attempt == _ATTEMPTS:
                    raise
                time.sleep(attempt * random.uniform(0.1, 0.4))
        raise AssertionError


def reason_of(error: BaseException) -> str:
    """What a database said, without the statement it was said of."""
    while isinstance(error, OptunaError) and error.__cause__ is not None:
        error = error.__cause__
    return str(getattr(error, "orig", None) or error).strip().splitlines()[0]


def study_settings(space: Space, fixed: CDSRConfig, sampler: str) -> dict[str, Any]:
    """All that makes two trials comparable: the space, what is fixed, the sampler.

    Where files lie, the device and what is merely reported may differ between processes.
    """
    drawn = {parameter.name: parameter.description() for parameter in space.parameters}
    own = NOT_TRAINING - {"epochs", "stopping_step", "stopping_updates"}
    kept = {key: value for key, value in fixed.plain().items() if key not in own and key not in drawn}
    return {"space": drawn, "sampler": sampler, **kept}


def _check_settings(study: Study, settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    begun = study.user_attrs[SETTINGS]

    def same(key: str) -> bool:
        if key in begun and key in settings:
            return bool(begun[key] == settings[key])
        # A version of the package knows keys that another one does not; what is off changes nothing.
        value = settings.get(key, begun.get(key))
        return is_off(value) or (key in settings and key in defaults and value == defaults[key])

    differing = sorted(key for key in begun.keys() | settings.keys() if not same(key))
    if not differing:
        return
    named = [_difference(key, begun.get(key), settings.get(key)) for key in differing[:5]]
    raise ConfigError(
        f"The study {study.study_name!r} was begun with other settings, and its trials would not compare "
        f"({'; '.join(named)}); go on with the same ones, or name another --output and --study."
    )


def _difference(key: str, then: Any, now: Any) -> str:
    if key != "space":
        return f"{key} is {now!r}, was {then!r}"
    keys = sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))
    return f"the space differs in {', '.join(keys)}" if keys else "the space differs"
