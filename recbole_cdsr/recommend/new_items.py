"""Items that a model was not trained on, described by their text alone."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from recbole.data.interaction import Interaction

from recbole_cdsr.config_names import did_you_mean
from recbole_cdsr.errors import ConfigError, DataError
from recbole_cdsr.llm.item_features import read_items
from recbole_cdsr.llm.matrix import load_matrix
from recbole_cdsr.llm.prompts import item_texts, item_titles
from recbole_cdsr.llm.reduction import principal_axes, project
from recbole_cdsr.llm.settings import FeatureSettings
from recbole_cdsr.model.injected_embedding import AdaptedEmbedding, FrozenEmbedding
from recbole_cdsr.trained_run import TrainedRun

# Models of RecBole that score with the whole table of items, so that a row behind the others is an item more; a test
# compares each with the items it knows.
SCORE_WHOLE_TABLE = frozenset({"BPR", "GRU4Rec", "NARM", "SASRec", "STAMP"})


@dataclass(frozen=True, eq=False)
class NewItems:
    """m items without an internal id.

    Attributes
    ----------
    tokens, titles : list[str]
        ``[m]`` each.
    domains : np.ndarray
        int64 ``[m]``, 0-based.
    features : np.ndarray
        float32 ``[m, D]``, their text as the run's encoder sees it.
    """

    tokens: list[str]
    titles: list[str]
    domains: np.ndarray
    features: np.ndarray

    def of_domain(self, domain: int) -> np.ndarray:
        """int64, the places of a domain's items."""
        return np.flatnonzero(self.domains == domain)


def check_scores_new_items(run: TrainedRun) -> None:
    """Refuse a model that cannot say anything of an item it was not trained on.

    Raises
    ------
    ConfigError
        Saying why.
    """
    reason = _why_not(run.config)
    if reason is not None:
        raise ConfigError(f"{run.config['model']} cannot score items that it was not trained on: {reason}.")


def _why_not(config: Any) -> str | None:
    model, mode = config["model"], config["llm_injection"]
    if config["llm_permute_seed"] is not None:
        return "llm_permute_seed gave its items each other's text, so that a text says nothing of an item"
    if model == "LLM4CDSR":
        if not config["use_global"]:
            return "use_global is False, and without the global part it knows items by ids alone"
        if not config["freeze_emb"]:
            return "freeze_emb is False, so that training moved its items away from their texts"
        return None
    if model == "LeCDSR":
        return "it scores with a row of an output table that is learnt for each item; text enters its histories only"
    if model == "LLMCDSR":
        return "it scores with a row of a table that is learnt for each item; text guides what it recalls in training"
    if mode in ("init", "concat"):
        return f"with llm_injection {mode} every item has a row of its own that is learnt; adapter and frozen have none"
    if mode not in ("adapter", "frozen"):
        return "it knows items by ids alone; LLM4CDSR can, and so can models trained with llm_injection adapter"
    if model not in SCORE_WHOLE_TABLE:
        return (
            "it is not known to score rows behind its table of items; of RecBole's models with llm_injection "
            f"{', '.join(sorted(SCORE_WHOLE_TABLE))} are"
        )
    return None


def read_new_items(path: Path, run: TrainedRun, features_file: Path | None = None) -> NewItems:
    """Read new items and encode their text as that of the training items was.

    Parameters
    ----------
    path
        Comma-separated where it ends in `.csv`, else tab-separated, quoted as CSV does; a header with `item_id`,
        `domain` and text columns of `.item` (also as `name:type`), in any order. Text columns that are not there are
        empty.
    run
        Gives domains, encoder and wording.
    features_file
        Vectors of the items, a row for each, in place of their text; needed where the run's were given by the user.

    Raises
    ------
    DataError
        The file cannot be read, or a row is no new item.
    ConfigError, FeatureError
        The texts cannot be encoded as in training, or the training items' features cannot be read.
    """
    settings = FeatureSettings(run.config, run.data.dataset_name)
    known = read_items(settings)
    frame = _read_table(path).rename(columns={settings.domain_field: "domain"})
    _check_columns(path, frame, known)
    _check_rows(path, frame, run)
    frame = frame.reindex(columns=[column for column in known if column in frame])
    names = run.data.domain_names
    domains = np.array([names.index(name) for name in frame["domain"]], dtype=np.int64)
    run.model_of(names[0])  # which of the features are read, an injected model says when it is built
    width = run.data.llm_features.items.shape[1]
    if features_file is not None:
        matrix = np.array(load_matrix(features_file, len(frame), width, "--new-item-features", path.name))
    else:
        matrix = _encoded(settings, frame)
    return NewItems(frame["item_id"].tolist(), item_titles(frame, settings.item_prompt()), domains, matrix)


def _read_table(path: Path) -> pd.DataFrame:
    separator = "," if path.suffix == ".csv" else "\t"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # cells beyond the header's would be dropped
            frame = pd.read_csv(path, sep=separator, dtype=str, na_filter=False, encoding="utf-8-sig", index_col=False)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); give a table of new items.") from None
    except pd.errors.ParserWarning:
        raise DataError(
            f"{path}: a line has more cells than the header; quote cells that hold a "
            f"{'comma' if separator == ',' else 'tab'}."
        ) from None
    except ValueError as error:  # pandas' ParserError and UnicodeDecodeError among them
        raise DataError(
            f"{path} cannot be read as a table ({' '.join(str(error).split())}); separate cells by "
            f"{'commas' if separator == ',' else 'tabs'}, and quote those that hold some."
        ) from None
    frame.columns = [str(name).partition(":")[0] for name in frame.columns]
    return frame.fillna("").astype(object)


def _check_columns(path: Path, frame: pd.DataFrame, known: pd.DataFrame) -> None:
    missing = [name for name in ("item_id", "domain") if name not in frame]
    if missing:
        raise DataError(f"{path}, line 1: there is no column {missing[0]!r}; found {', '.join(frame.columns)[:80]!r}.")
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise DataError(f"{path}, line 1: the column {twice[0]!r} stands there twice; keep one of the two.")
    strange = [name for name in frame if name not in known]
    if strange:
        raise DataError(
            f"{path}, line 1: the items of training have no column {strange[0]!r}{did_you_mean(strange[0], known)} "
            "Leave it out, for a text with it would be worded otherwise than theirs."
        )
    if not len(frame):
        raise DataError(f"{path} holds a header and no item; write a line for each.")


def _check_rows(path: Path, frame: pd.DataFrame, run: TrainedRun) -> None:
    known, tokens = run.data.field2token_id[run.data.iid_field], frame["item_id"]
    faults = [
        (tokens == "", "the item has no item_id"),
        (tokens.duplicated(), "this item_id stands there twice"),
        (tokens.isin(known.keys()), f"this item is known to '{run.data.dataset_name}' already"),
        (~frame["domain"].isin(run.data.domain_names), f"the domain must be one of {', '.join(run.data.domain_names)}"),
    ]
    for wrong, what in faults:
        if wrong.any():
            row = int(np.flatnonzero(wrong.to_numpy())[0])
            cells = frame.iloc[row]
            raise DataError(f"{path}, item {row + 1} ({cells['item_id']!r}, domain {cells['domain']!r}): {what}.")


def _encoded(settings: FeatureSettings, frame: pd.DataFrame) -> np.ndarray:
    """float32 ``[m, D]``, by encoder and wording of the training items, whose set was compared with them when read."""
    if settings.item_features_file is not None:
        raise ConfigError(
            "The run's item features were given by the user (item_features_file), so that no encoder is known that "
            "new items could be encoded with; give their vectors with --new-item-features."
        )
    return settings.text_encoder().encode(item_texts(frame, settings.item_prompt()), settings.show_progress)


def _reduced(features: np.ndarray, trained: np.ndarray, width: int | None) -> np.ndarray:
    """Features ``[m, D]`` on the axes that LLM4CDSR's text table was reduced to: ``[m, D_all]``.

    `trained` ``[n_items, D]`` are those of the training items.
    """
    return features if width is None else project(features, *principal_axes(trained[1:], width))


class NewItemScores:
    """Scores of new items by one model.

    LLM4CDSR scores them by its global part: the row that training would learn for an id is not there, so the local part
    is zero. With injected features the items' rows are appended to the model's own table, which is made of text.

    Parameters
    ----------
    run
        The run.
    model
        Of the run; with injected features its tables grow.
    items
        m new items.
    """

    def __init__(self, run: TrainedRun, model: torch.nn.Module, items: NewItems) -> None:
        self._text: torch.Tensor | None = None
        self._model, self._n_new = model, len(items.tokens)
        if run.config["model"] == "LLM4CDSR":
            text = _reduced(items.features, run.data.llm_features.items, run.config["global_dim"])
            self._text = torch.from_numpy(text).to(run.config["device"])  # [m, D_all]
            return
        for table in model.llm_injection["tables"]:
            if table["of"] == "items":
                embedding: AdaptedEmbedding | FrozenEmbedding = model.get_submodule(table["name"])
                embedding.append(items.features)

    def of(self, interaction: Interaction, scores: torch.Tensor) -> torch.Tensor:
        """Scores ``[B, m]`` of B rows, of which the model has given `scores` of all its items."""
        if self._text is None:
            return scores[:, -self._n_new :]
        return self._model.score_new_items(interaction.to(self._text.device), self._text)
