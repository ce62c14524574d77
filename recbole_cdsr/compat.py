"""The one place that knows what RecBole 1.2.1 trips over on today's Python stack.

Importing `recbole_cdsr` sees to it that `mend()` runs once, as soon as RecBole itself is imported; what needs no
RecBole, such as converting data, does not wait for it. Each mend is narrow, does nothing where the stack still has what
RecBole expects, and names the upstream issue it answers:

====================  ==========================================================================================
NumPy 2               `np.float_`, `np.complex_`, `np.unicode_` are gone (RecBole #2155)
pandas 3              copy-on-write voids `frame[column].fillna(..., inplace=True)`; `Series.agg(len)` counts the
                      series instead of its sequences (RecBole #2215)
PyTorch >= 2.6        `torch.load` admits tensors only, RecBole's checkpoints hold its Config (RecBole #2174)
SciPy >= 1.14         `dok_matrix._update` is gone (LightGCN, NGCF, NCL, GCMC, SpectralCF)
ray                   `recbole.quick_start` imports `ray.tune`, which cannot be installed beside this stack
Python >= 3.12        `distutils` is gone, `thop` (FLOPs counter) imports it
(any)                 importing RecBole's sequential models leaves PyTorch's anomaly detection switched on (SINE does
                      it): every backward pass of the process then formats a traceback per operation
====================  ==========================================================================================
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader

_mended: list[str] = []
_begun = False


class _MendingLoader(SourceFileLoader):
    """Loads the package `recbole`, and mends it before whoever imports it can go on."""

    def exec_module(self, module: types.ModuleType) -> None:
        super().exec_module(module)
        mend()


class _SINELoader(SourceFileLoader):
    """Loads RecBole's module of SINE, which switches anomaly detection on for the whole process, and puts it back."""

    def exec_module(self, module: types.ModuleType) -> None:
        import torch

        before = torch.is_anomaly_enabled()
        super().exec_module(module)
        torch.autograd.set_detect_anomaly(before)


_SINE = "recbole.model.sequential_recommender.sine"
_LOADERS = {"recbole": _MendingLoader, _SINE: _SINELoader}


class _RecBoleFinder(PathFinder):
    """Finds what `_LOADERS` names where Python would, for the loaders there."""

    @classmethod
    def find_spec(
        cls, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = super().find_spec(name, path, target) if name in _LOADERS else None
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _LOADERS[name](spec.loader.name, spec.loader.path)
        return spec


def mend_on_import() -> None:
    """Run `mend` when RecBole is imported; at once where it is imported already or is not loaded from plain files.

    Raises
    ------
    ImportError
        RecBole is not installed.
    """
    sys.meta_path.insert(0, _RecBoleFinder)
    if "recbole" in sys.modules:
        mend()
        return
    spec = importlib.util.find_spec("recbole")
    if spec is None:
        raise ImportError(
            "RecBole is not installed beside recbole-cdsr: run `pip install --no-deps recbole==1.2.1` "
            "(its requirement ray<=2.6.3 is not needed here and has no build for Python 3.12 and later)."
        )
    if not isinstance(spec.loader, _MendingLoader):
        mend()


def mend() -> list[str]:
    """Make RecBole importable and usable; idempotent.

    Returns
    -------
    list of str
        One line per mend that was needed on this stack, for `recbole-cdsr doctor`.
    """
    global _begun
    if _begun:
        return list(_mended)
    _begun = True
    _restore_numpy_names()
    with _distutils_for_thop(), _ray_stub():
        importlib.import_module("recbole.quick_start")
        importlib.import_module("thop.profile")
    _fill_missing_values_for_pandas_3()
    _measure_sequences_one_by_one()
    _restore_dok_update()
    _admit_recbole_checkpoints()
    _stop_detecting_anomalies()
    return list(_mended)


def _restore_numpy_names() -> None:
    import numpy as np

    # `np.float` itself RecBole's Config would restore; its metrics may be used without one.
    gone = {"float_": np.float64, "complex_": np.complex128, "unicode_": np.str_, "float": np.float64}
    missing = [name for name in gone if name not in vars(np)]
    for name in missing:
        setattr(np, name, gone[name])
    if missing:
        _mended.append(f"numpy {np.__version__}: restored {', '.join('np.' + name for name in missing)}")


@contextmanager
def _temporary_modules(modules: dict[str, types.ModuleType]) -> Iterator[None]:
    """Hold `modules` in `sys.modules` for the duration of an import, and no longer.

    A lasting stub would answer other libraries that probe for the real package.
    """
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in modules.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


@contextmanager
def _ray_stub() -> Iterator[None]:
    # Even an installed ray is kept out: 2.6.3 fails on `pkg_resources`, and nothing here tunes with it.
    if "ray" in sys.modules:
        yield
        return
    ray, tune = types.ModuleType("ray"), types.ModuleType("ray.tune")

    def report(**metrics: float) -> None:
        raise RuntimeError("Hyper-parameter search through ray is not available here: ray is not installed.")

    tune.report = report
    ray.tune = tune
    with _temporary_modules({"ray": ray, "ray.tune": tune}):
        yield
    _mended.append("ray: not needed, `recbole.quick_start` imported without it")


@contextmanager
def _distutils_for_thop() -> Iterator[None]:
    if importlib.util.find_spec("distutils") is not None:
        yield
        return
    from packaging.version import Version

    distutils, version = types.ModuleType("distutils"), types.ModuleType("distutils.version")
    version.LooseVersion = Version
    distutils.version = version
    with _temporary_modules({"distutils": distutils, "distutils.version": version}):
        yield
    _mended.append("distutils: `thop` imported with packaging's Version in place of LooseVersion")


class _PandasForAtomicFiles:
    """pandas as RecBole's loader sees it: sequence columns (`name:token_seq`) hold "" where the file has nothing."""

    def __init__(self, pandas: types.ModuleType) -> None:
        self._pandas = pandas
        self.engine: str | None = None  # None leaves RecBole's choice, the Python parser

    def __getattr__(self, name: str) -> object:
        return getattr(self._pandas, name)

    def read_csv(self, *args: object, **kwargs: object) -> object:
        if self.engine is not None:
            kwargs["engine"] = self.engine
        frame = self._pandas.read_csv(*args, **kwargs)
        for column in frame.columns:
            if str(column).endswith("_seq"):
                frame[column] = frame[column].fillna("")
        return frame


@contextmanager
def c_parser() -> Iterator[None]:
    """Read atomic files with pandas' C parser: the same frame some fifteen times sooner than RecBole's choice."""
    from recbole.data.dataset import dataset as recbole_dataset

    recbole_dataset.pd.engine = "c"
    try:
        yield
    finally:
        recbole_dataset.pd.engine = None


def _fill_missing_values_for_pandas_3() -> None:
    import pandas as pd
    from recbole.data.dataset import dataset as recbole_dataset
    from recbole.utils import FeatureType

    recbole_dataset.pd = _PandasForAtomicFiles(pd)
    if int(pd.__version__.split(".")[0]) < 3:
        return

    original = recbole_dataset.Dataset._fill_nan

    @functools.wraps(original)
    def fill_nan(self: object) -> None:
        # Fill first, by assignment; what RecBole then fills in place has nothing left to fill.
        for feat_name in self.feat_name_list:
            feat = getattr(self, feat_name)
            for field in feat:
                if not feat[field].isna().any():
                    continue
                if self.field2type[field] == FeatureType.TOKEN:
                    feat[field] = feat[field].fillna(0)
                elif self.field2type[field] == FeatureType.FLOAT:
                    feat[field] = feat[field].fillna(feat[field].mean())
        original(self)

    recbole_dataset.Dataset._fill_nan = fill_nan
    # RecBole's own in-place fills remain, without effect; their warnings would tell a user nothing.
    warnings.filterwarnings("ignore", category=pd.errors.ChainedAssignmentError, module=r"recbole\.data\.dataset")
    _mended.append(f"pandas {pd.__version__}: missing values are filled by assignment")


def _measure_sequences_one_by_one() -> None:
    """Give `Series.agg(len)` its meaning back inside the methods of RecBole's datasets that measure sequences."""
    import pandas as pd

    if isinstance(pd.Series([[1], [2, 3]]).agg(len), pd.Series):
        return
    from recbole.data.dataset import Dataset, SequentialDataset

    whole_series = pd.Series.agg

    def agg(self: pd.Series, func: object = None, *args: object, **kwargs: object) -> object:
        return self.map(len) if func is len else whole_series(self, func, *args, **kwargs)

    def measuring(original: Callable) -> Callable:
        @functools.wraps(original)
        def method(self: object, *args: object, **kwargs: object) -> object:
            pd.Series.agg = agg
            try:
                return original(self, *args, **kwargs)
            finally:
                pd.Series.agg = whole_series

        return method

    for name in ("_remap", "_normalize", "_discretization"):
        setattr(Dataset, name, measuring(getattr(Dataset, name)))
    SequentialDataset._benchmark_presets = measuring(SequentialDataset._benchmark_presets)
    _mended.append(f"pandas {pd.__version__}: sequences are measured one by one")


def _restore_dok_update() -> None:
    import scipy
    from scipy.sparse import dok_matrix

    if hasattr(dok_matrix, "_update"):
        return

    def _update(self: dok_matrix, entries: dict) -> None:
        self._dict.update(entries)

    dok_matrix._update = _update
    _mended.append(f"scipy {scipy.__version__}: restored dok_matrix._update")


def _admit_recbole_checkpoints() -> None:
    """Let RecBole's trainer read its own checkpoints under `weights_only=True`.

    The classes its pickled Config consists of are admitted by name while it loads; nothing else is.
    """
    import numpy as np
    import torch
    import yaml
    from recbole.config import Config
    from recbole.trainer import trainer as recbole_trainer
    from recbole.utils import EvaluatorType, InputType, ModelType

    plain = [Config, ModelType, InputType, EvaluatorType, yaml.FullLoader, torch.device]
    scalars = [np.dtype, np._core.multiarray.scalar, type(np.dtype(np.float64)), type(np.dtype(np.int64))]

    def admitting(original: Callable) -> Callable:
        @functools.wraps(original)
        def method(self: object, *args: object, **kwargs: object) -> object:
            model_class = getattr(self.config, "model_class", None)
            classes = plain + scalars + ([model_class] if model_class is not None else [])
            with torch.serialization.safe_globals(classes):
                return original(self, *args, **kwargs)

        return method

    trainer = recbole_trainer.Trainer
    trainer.evaluate = admitting(trainer.evaluate)
    trainer.resume_checkpoint = admitting(trainer.resume_checkpoint)
    recbole_trainer.torch = _TorchWithPlainPickles(torch)
    _mended.append(f"torch {torch.__version__}: RecBole's own checkpoints load with weights_only=True")


def _stop_detecting_anomalies() -> None:
    import torch

    if _SINE in sys.modules and type(sys.modules[_SINE].__loader__) is not _SINELoader:  # imported before we were
        torch.autograd.set_detect_anomaly(False)
    _mended.append(f"torch {torch.__version__}: SINE's module leaves anomaly detection as it was")


class _TorchWithPlainPickles:
    """torch as RecBole's trainer sees it: `save` leaves out protocol 4, which the safe loader cannot read."""

    def __init__(self, torch: types.ModuleType) -> None:
        self._torch = torch

    def __getattr__(self, name: str) -> object:
        return getattr(self._torch, name)

    def save(self, state: object, file: object, **kwargs: object) -> None:
        kwargs.pop("pickle_protocol", None)
        self._torch.save(state, file, **kwargs)
