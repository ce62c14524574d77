"""Cross-domain data for RecBole: one mixin over its sequential and its general dataset.

Splits are computed once from the interactions, before the model is known; what differs between models is only how
training rows are laid out (one per user, one per prefix, one per interaction). RecBole's dataloaders call
`dataset[index]`: there windows are cut, negatives drawn and fields named.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from recbole.data.dataset import Dataset, SequentialDataset
from recbole.data.interaction import Interaction
from recbole.utils import FeatureSource, FeatureType

from recbole_cdsr import compat
from recbole_cdsr.data import loading
from recbole_cdsr.data.card import DatasetCard, load_card
from recbole_cdsr.data.negatives import ConsumedItems, InDomainNegatives
from recbole_cdsr.data.sequences import (
    LEAVE_ONE_OUT,
    TRAIN,
    Rows,
    leave_one_out,
    pre_split,
    recbole_order,
)
from recbole_cdsr.data.user_tables import has_user_table
from recbole_cdsr.data.windows import WindowCutter
from recbole_cdsr.errors import ConfigError, DataError
from recbole_cdsr.evaluator.rows import EvaluationRows

TARGET_DOMAIN = "target_domain"
TARGET_LIST = "target_id_list"
DOMAIN_ITEM = "domain_item_id"
ROW_ID = "row_id"
ANY_COUNT = "[0,inf)"  # RecBole's default interval: filters nothing


@dataclass(frozen=True, eq=False)
class Histories:
    """Flat training histories.

    Parameters
    ----------
    user_ids
        int64 ``[U]``, internal ids, ascending and distinct.
    pointers
        int64 ``[U + 1]``: user ``user_ids[j]`` consumed ``item_ids[pointers[j]:pointers[j + 1]]``, oldest first.
    item_ids
        int64 ``[N]``.
    """

    user_ids: np.ndarray
    pointers: np.ndarray
    item_ids: np.ndarray


class CrossDomainMixin:
    """What both datasets share: domains, contiguous item ids, splits, the rows to be judged."""

    phase: str | None = None  # "train", "valid", "test" once split

    # ------------------------------------------------------------------------------------------------ loading
    def _load_data(self, token: str, dataset_path: str) -> None:
        folder = Path(dataset_path)
        self._files = loading.interaction_files(folder, token)
        self._item_file = folder / f"{token}.item"
        if not self._item_file.is_file():
            raise DataError(
                f"{self._item_file} is not there; it names the domain of every item. Convert the dataset again."
            )
        self.card: DatasetCard | None = load_card(folder, token)
        self._shared: dict[str, object] = {}  # computed once, whichever split asks first
        super()._load_data(token, dataset_path)

    def _load_inter_feat(self, token: str, dataset_path: str) -> None:
        parts = [self._load_feat(str(path), FeatureSource.INTERACTION) for path in self._files]
        self._part_sizes = [len(part) for part in parts]
        self.inter_feat = pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]

    def _load_feat(self, filepath: str, source: FeatureSource | str) -> pd.DataFrame | None:
        with compat.c_parser():
            frame = super()._load_feat(filepath, source)
        if source == FeatureSource.ITEM:
            loading.check_items(frame, Path(filepath), self.iid_field, self.config["DOMAIN_FIELD"])
        return frame

    @property
    def is_pre_split(self) -> bool:
        """Whether the release comes with its own training, validation and test file."""
        return len(self._files) > 1

    def _data_processing(self) -> None:
        stops = np.cumsum(self._part_sizes)
        for path, size, stop in zip(self._files, self._part_sizes, stops, strict=True):
            part = self.inter_feat.iloc[stop - size : stop].reset_index(drop=True)
            loading.check_interactions(
                part, path, self.uid_field, self.iid_field, self.time_field, self.item_feat[self.iid_field]
            )
            if self.is_pre_split and path != self._files[0]:
                loading.check_lengths(part, path, self.uid_field, "a target needs a row of history before it.")
        super()._data_processing()

    def _data_filtering(self) -> None:
        if self.is_pre_split:
            asked = [
                key
                for key in ("user_inter_num_interval", "item_inter_num_interval")
                if self.config[key] not in (None, ANY_COUNT)
            ] + [key for key in ("rm_dup_inter", "val_interval") if self.config[key] is not None]
            if asked:
                raise ConfigError(
                    f"{', '.join(asked)}: '{self.dataset_name}' comes pre-split, and filtering it would change the "
                    "published rows. Remove the key, or convert the data with the filter and `--split loo`."
                )
            return
        super()._data_filtering()
        loading.check_lengths(
            self.inter_feat,
            self._files[0],
            self.uid_field,
            'drop them with `user_inter_num_interval: "[3,inf)"`, which keeps users with three interactions or more.',
        )

    def _filter_by_inter_num(self) -> None:
        # RecBole counts every user and item in Python even when there is nothing to filter.
        intervals = (self.config["user_inter_num_interval"], self.config["item_inter_num_interval"])
        if any(interval not in (None, ANY_COUNT) for interval in intervals):
            super()._filter_by_inter_num()

    # ------------------------------------------------------------------------------------------------ domains
    def _remap(self, remap_list: list) -> None:
        super()._remap(remap_list)
        if any(field == self.iid_field for _, field, _ in remap_list):
            self._number_items_by_domain(remap_list)

    def _number_items_by_domain(self, remap_list: list) -> None:
        """Renumber items so that each domain is one block, keeping RecBole's order inside a block."""
        codes, names = pd.factorize(self.item_feat[self.config["DOMAIN_FIELD"]])
        domain = np.full(self.item_num, -1, dtype=np.int64)
        domain[self.item_feat[self.iid_field].to_numpy()] = codes
        by_domain = np.argsort(domain, kind="stable")  # padding (-1) stays first
        new_id = np.empty_like(by_domain)
        new_id[by_domain] = np.arange(len(by_domain))
        for feat, field, field_type in remap_list:
            if field_type == FeatureType.TOKEN:
                feat[field] = new_id[feat[field].to_numpy()]
            else:
                feat[field] = [new_id[ids] for ids in feat[field]]
        tokens = self.field2id_token[self.iid_field][by_domain]
        ids = {token: index for index, token in enumerate(tokens)}
        for _, field, _ in remap_list:
            self.field2id_token[field], self.field2token_id[field] = tokens, ids
        self.domain_names: list[str] = [str(name) for name in names]
        self.item_domain: np.ndarray = domain[by_domain]
        self.domain_offsets: np.ndarray = np.searchsorted(self.item_domain, np.arange(len(names) + 1))

    # ------------------------------------------------------------------------------------------------ splits
    def _change_feat_format(self) -> None:
        # The log is taken from the table, before RecBole casts times to float32 (steps of 128 s today).
        users = self.inter_feat[self.uid_field].to_numpy()
        items = self.inter_feat[self.iid_field].to_numpy()
        times = self.inter_feat[self.time_field].to_numpy(dtype=np.float64)
        if self.is_pre_split:
            self.log = pre_split(users, items, times, self._part_sizes)
        else:
            self.log = leave_one_out(users, items, times, self._leave_one_out_mode())
        super()._change_feat_format()

    def _leave_one_out_mode(self) -> str:
        mode = (self.config["eval_args"]["split"] or {}).get("LS")
        if mode not in LEAVE_ONE_OUT:
            raise ConfigError(f"eval_args.split: {{LS: {mode}}} must be one of {', '.join(LEAVE_ONE_OUT)}.")
        return mode

    @cached_property
    def fold_in(self) -> bool:
        """Whether the model is also trained on the input histories of held-out users (protocol, point 3)."""
        held_out = bool((self.log.segment_parts != TRAIN).any())
        return bool(self.config["fold_in"]) and held_out and has_user_table(self.config.model_class)

    def training_histories(self) -> Histories:
        """Every user's input history: the training part, or everything before the target of a held-out user."""
        if "histories" not in self._shared:
            log = self.log
            # A user of the training file who is also judged keeps the training part only.
            trained = np.isin(log.segment_users, log.segment_users[log.segment_parts == TRAIN])
            usable = (log.segment_parts == TRAIN) | ~trained
            stops = np.where(usable, log.history_stops(fold_in=True), log.segment_starts)
            lengths = np.maximum(stops - log.segment_starts, 0)
            positions = np.repeat(log.segment_starts - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
            users = log.users[positions]
            order = np.argsort(users, kind="stable")
            user_ids, first = np.unique(users[order], return_index=True)
            self._shared["histories"] = Histories(user_ids, np.append(first, len(users)), log.items[positions][order])
        return self._shared["histories"]

    @property
    def llm_features(self):
        """LLM features of this dataset (`recbole_cdsr.llm.features.LLMFeatures`), built when first read."""
        if "llm_features" not in self._shared:
            from recbole_cdsr.llm.build import build_llm_features

            self._shared["llm_features"] = build_llm_features(self.config, self)
        return self._shared["llm_features"]

    def _judged_rows(self) -> Rows:
        return self.log.valid if self.phase == "valid" else self.log.test

    def evaluation_rows(self) -> EvaluationRows:
        """The rows of this split, as the evaluator takes them; the same for every model.

        Raises
        ------
        ValueError
            On a dataset that is not a validation or test split.
        """
        if self.phase not in ("valid", "test"):
            raise ValueError(f"A {self.phase or 'whole'} dataset has no rows to judge.")
        rows, log = self._judged_rows(), self.log
        if "user_item_keys" not in self._shared:
            self._shared["user_item_keys"] = np.unique(log.users * self.item_num + log.items)
            trained = log.items[log.training_positions(fold_in=False)]
            self._shared["train_item_counts"] = np.bincount(trained, minlength=self.item_num)
        targets = log.items[rows.targets]
        return EvaluationRows(
            split=self.phase,
            users=log.users[rows.targets],
            targets=targets,
            target_domains=self.item_domain[targets],
            history_pointers=np.stack([rows.starts, rows.targets], axis=1),
            flat_items=log.items,
            user_item_keys=self._shared["user_item_keys"],
            train_item_counts=self._shared["train_item_counts"],
            domain_offsets=self.domain_offsets,
            domain_names=self.domain_names,
            row_keys=np.arange(len(rows)),
        )

    def judged_users_unseen(self) -> np.ndarray:
        """bool ``[R]``: rows of this split whose user a user table would not know."""
        trained = self.log.users[self.log.training_positions(self.fold_in)]
        return ~np.isin(self.log.users[self._judged_rows().targets], trained)

    def __str__(self) -> str:
        lines = [super().__str__()]
        sizes = np.diff(self.domain_offsets)
        domains = ", ".join(f"{name} ({size} items)" for name, size in zip(self.domain_names, sizes, strict=True))
        lines.append(f"Domains: {domains}")
        if self.card is not None:
            lines.append(self.card.describe())
        return "\n".join(lines)


class CrossDomainGeneralDataset(CrossDomainMixin, Dataset):
    """Interactions for RecBole's general models: every training interaction, each user's first included."""

    def build(self) -> list[CrossDomainGeneralDataset]:
        """Training interactions in RecBole's order, and one row per judged user."""
        self._change_feat_format()
        log = self.log
        positions = log.training_positions(self.fold_in)
        # RecBole orders by time from file order; the log's own order breaks ties by user.
        in_file_order = positions[np.argsort(log.order[positions], kind="stable")]
        ordered = in_file_order[recbole_order(log.users[in_file_order], log.times[in_file_order])]
        train = self.copy(self.inter_feat[torch.from_numpy(log.order[ordered])])
        train.phase = "train"
        return [train, self._judge("valid"), self._judge("test")]

    def _judge(self, phase: str) -> CrossDomainGeneralDataset:
        rows = self.log.valid if phase == "valid" else self.log.test
        table = self.inter_feat[torch.from_numpy(self.log.order[rows.targets])]
        domains = torch.from_numpy(self.item_domain)[table[self.iid_field]]
        table.update(Interaction({TARGET_DOMAIN: domains, ROW_ID: torch.arange(len(rows))}))
        judged = self.copy(table)
        judged.phase = phase
        return judged


class CrossDomainSequentialDataset(CrossDomainMixin, SequentialDataset):
    """Windows for sequential models: a row per prefix (RecBole's) or a row per user (sequence-to-sequence)."""

    def data_augmentation(self) -> None:
        """Take the place of RecBole's augmentation: remember where windows are instead of storing them."""
        self._aug_presets()
        columns = self.inter_feat[torch.from_numpy(self.log.order)].interaction
        self._columns = {field: column for field, column in columns.items() if field != self.uid_field}
        self._users = columns[self.uid_field]
        self.per_user = getattr(self.config.model_class, "rows_per", "prefix") == "user"
        self._cutter = WindowCutter(self._columns, self.max_item_list_len, fixed_length=not self.per_user)
        everything = Rows(self.log.segment_starts, self.log.segment_stops)
        flat = np.arange(len(self.log.items))
        starts = np.repeat(everything.starts, everything.targets - everything.starts)
        self._take_rows(Rows(starts[flat > starts], flat[flat > starts]))

    def _take_rows(self, rows: Rows) -> None:
        targets = torch.from_numpy(rows.targets)
        lengths = torch.from_numpy(np.minimum(rows.targets - rows.starts, self.max_item_list_len))
        table = {self.uid_field: self._users[targets], self.item_list_length_field: lengths}
        table.update({field: column[targets] for field, column in self._columns.items()})
        self.rows = rows
        self.inter_feat = Interaction(table)

    def _view(self, rows: Rows, phase: str) -> CrossDomainSequentialDataset:
        view = copy.copy(self)
        view.phase = phase
        view._take_rows(rows)
        return view

    def build(self) -> list[CrossDomainSequentialDataset]:
        """Training rows as the model wants them, and the judged rows, the same for every model."""
        self._change_feat_format()
        rows = self.log.user_rows(self.fold_in) if self.per_user else self.log.prefix_rows(self.fold_in)
        if not len(rows):
            raise DataError(
                f"'{self.dataset_name}' has no user with two training interactions; there is nothing to train on."
            )
        train = self._view(rows, "train")
        if self.per_user:
            train._prepare_draws()
        return [train, self._view(self.log.valid, "valid"), self._view(self.log.test, "test")]

    def _prepare_draws(self) -> None:
        trained = self.log.training_positions(fold_in=False)
        self._negatives = InDomainNegatives(
            self.log.users[trained], self.log.items[trained], self.user_num, self.domain_offsets
        )
        self._consumed = None
        if getattr(self.config.model_class, "needs_domain_pairs", False):
            lengths = self.rows.targets - self.rows.starts + 1
            owners = np.repeat(np.arange(len(self.rows)), lengths)
            first = np.repeat(self.rows.starts - (np.cumsum(lengths) - lengths), lengths)
            self._consumed = ConsumedItems(
                owners, self.log.items[first + np.arange(len(owners))], len(self.rows), self.domain_offsets
            )

    def __getitem__(self, index: np.ndarray | torch.Tensor | slice | list[int], join: bool = True) -> Interaction:
        """A batch of rows with their windows.

        Parameters
        ----------
        index
            Row numbers of this dataset.
        join
            Add user and item features, as RecBole does; our models take none.

        Returns
        -------
        Interaction
            Fields as in `docs/architecture.md`.
        """
        if isinstance(index, slice):
            index = np.arange(len(self))[index]
        index = np.asarray(index, dtype=np.int64).reshape(-1)
        rows = self.rows.take(index)
        batch = self.inter_feat[torch.from_numpy(index)]
        windows = self._cutter.cut(rows)
        fields = [self.iid_field] if self.per_user else self._columns
        added = {getattr(self, f"{field}_list_field"): windows.values(field) for field in fields}
        added[TARGET_DOMAIN] = torch.from_numpy(self.item_domain[self.log.items[rows.targets]])
        if self.phase in ("valid", "test"):
            added[ROW_ID] = torch.from_numpy(index)
        elif self.phase == "train" and self.per_user:
            added.update(self._training_fields(index, windows))
        batch.update(Interaction(added))
        return self.join(batch) if join and not self.per_user else batch

    def _training_fields(self, index: np.ndarray, windows) -> dict[str, torch.Tensor]:
        targets = windows.values(self.iid_field, shift=1)  # [B, L]
        real = windows.real
        users = np.repeat(self.log.users[self.rows.targets[index]], windows.lengths)
        negatives = np.zeros(real.shape, dtype=np.int64)
        negatives[real] = self._negatives.draw(users, self.item_domain[targets.numpy()[real]])
        fields = {
            TARGET_LIST: targets,
            self.config["NEG_PREFIX"] + self.iid_field + self.config["LIST_SUFFIX"]: torch.from_numpy(negatives),
        }
        if self._consumed is not None:
            fields[DOMAIN_ITEM] = torch.from_numpy(self._consumed.draw(index))
        return fields

    def inter_matrix(self, form: str = "coo", value_field: str | None = None):
        """Sparse matrix of the training interactions (`[n_users, n_items]`), as RecBole's method of this name."""
        flat = torch.from_numpy(self.log.training_positions(self.fold_in))
        table = {self.uid_field: self._users[flat]}
        table.update({field: column[flat] for field, column in self._columns.items()})
        return self._create_sparse_matrix(Interaction(table), self.uid_field, self.iid_field, form, value_field)
