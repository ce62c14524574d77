"""What both datasets of RecBole's kinds share here: loading, domains, contiguous item ids, splits, rows to be judged.

Splits are computed once from the interactions, before the model is known.
"""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from recbole.data.interaction import Interaction
from recbole.utils import FeatureSource, FeatureType

from recbole_cdsr import compat
from recbole_cdsr.data import loading
from recbole_cdsr.data.card import DatasetCard, load_card
from recbole_cdsr.data.domains import domain_blocks
from recbole_cdsr.data.sequences import TRAIN, Histories, Rows, leave_one_out, pre_split
from recbole_cdsr.data.user_tables import has_user_table
from recbole_cdsr.errors import ConfigError, DataError
from recbole_cdsr.evaluator.rows import EvaluationRows
from recbole_cdsr.llm.build import build_llm_features
from recbole_cdsr.llm.features import LLMFeatures
from recbole_cdsr.llm.prefix_profiles import PrefixProfiler, prefix_profiler
from recbole_cdsr.llm.pseudo_features import build_pseudo_items
from recbole_cdsr.llm.pseudo_items import PseudoItems


class CrossDomainMixin:
    """What both datasets share: domains, contiguous item ids, splits, the rows to be judged."""

    phase: str | None = None  # "train", "valid", "test" once split

    # ------------------------------------------------------------------------------------------------ loading
    def _load_data(self, token: str, dataset_path: str) -> None:
        folder = Path(dataset_path)
        self._files = [self._atomic(path) for path in loading.interaction_files(folder, token)]
        self._item_file = self._atomic(folder / f"{token}.item")
        if not self._item_file.path.is_file():
            raise DataError(
                f"{self._item_file} is not there; it names the domain of every item. Convert the dataset again."
            )
        self.card: DatasetCard | None = load_card(folder, token)
        self._shared: dict[str, Any] = {}  # computed once, whichever split asks first
        super()._load_data(token, dataset_path)
        for suffix in self.config["unused_col"] or ():  # RecBole looks when the data are split
            if getattr(self, f"{suffix}_feat", None) is None:
                raise ConfigError(
                    f"unused_col names columns of .{suffix}, and '{token}' has no such table loaded; remove {suffix} "
                    "from it, or load the table."
                )

    def _atomic(self, path: Path | str) -> loading.AtomicFile:
        return loading.AtomicFile(Path(path), self.config["field_separator"], self.config["encoding"] or "utf-8")

    def _load_inter_feat(self, token: str, dataset_path: str) -> None:
        parts = [self._load_feat(str(file), FeatureSource.INTERACTION) for file in self._files]
        self._part_sizes = [len(part) for part in parts]
        self.inter_feat = pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]

    def _load_feat(self, filepath: str, source: FeatureSource | str) -> pd.DataFrame | None:
        file, domain_field = self._atomic(filepath), self.config["DOMAIN_FIELD"]
        needed = {
            FeatureSource.INTERACTION: {self.uid_field: "token", self.iid_field: "token", self.time_field: "float"},
            FeatureSource.ITEM: {self.iid_field: "token", domain_field: "token"},
        }
        file.check_header(needed.get(source, {}))
        try:
            with compat.c_parser():
                frame = super()._load_feat(filepath, source)
        except (ValueError, OSError) as error:  # pandas' ParserError and UnicodeDecodeError are ValueErrors
            raise file.explain(error, self.config["seq_separator"]) from error
        if source == FeatureSource.ITEM:
            loading.check_items(frame, file, self.iid_field, domain_field)
        elif source == FeatureSource.INTERACTION:
            loading.check_loaded(frame, file, [self.uid_field, self.iid_field, self.time_field])
        return frame

    @property
    def is_pre_split(self) -> bool:
        """Whether the release comes with its own training, validation and test file."""
        return len(self._files) > 1

    def _data_processing(self) -> None:
        items = self.item_feat[self.iid_field]
        stops = np.cumsum(self._part_sizes)
        for file, size, stop in zip(self._files, self._part_sizes, stops, strict=True):
            part = self.inter_feat.iloc[stop - size : stop]
            loading.check_interactions(part, file, self.uid_field, self.iid_field, self.time_field, items)
            if self.is_pre_split and file != self._files[0]:
                remedy = "a target needs a row of history before it."
                loading.check_lengths(part, file, self.uid_field, remedy, np.arange(size))
                loading.warn_of_targets(part, file, self.uid_field, self.time_field)
        super()._data_processing()

    def _data_filtering(self) -> None:
        if self.is_pre_split:
            loading.check_unfiltered(self.config, self.dataset_name)
            return
        try:
            super()._data_filtering()
        except (ValueError, IndexError, TypeError) as error:
            raise ConfigError(
                f"The filters (user_inter_num_interval, item_inter_num_interval, val_interval, rm_dup_inter) cannot be "
                f"applied to '{self.dataset_name}': {str(error).rstrip('.')}; change or remove the one this is about."
            ) from error
        loading.check_domain_count(self.item_feat, self._item_file, self.config["DOMAIN_FIELD"], " after filtering")
        remedy = (
            'drop them with `user_inter_num_interval: "[3,inf)"`, which keeps users with three interactions or more.'
        )
        loading.check_lengths(self.inter_feat, self._files[0], self.uid_field, remedy, self._kept_rows)

    def _remove_duplication(self) -> None:
        # RecBole leaves the rows sorted by time, and by no stable sort: those of one time would lose their order.
        keep = self.config["rm_dup_inter"]
        if keep is None:
            return
        in_time = self.inter_feat.sort_values(self.time_field, kind="stable")
        repeated = in_time.duplicated([self.uid_field, self.iid_field], keep=keep)
        self.inter_feat.drop(index=in_time.index[repeated], inplace=True)

    def _filter_by_field_value(self) -> None:
        before = [feat[field] for feat, field in self._described()]
        super()._filter_by_field_value()
        if self.config["val_interval"] is None:
            return
        # RecBole leaves it to filter_inter_by_user_or_item that interactions go with their users and items.
        kept = np.ones(len(self.inter_feat), dtype=bool)
        for (feat, field), tokens in zip(self._described(), before, strict=True):
            dropped = tokens[~tokens.isin(feat[field])]
            kept &= ~self.inter_feat[field].isin(dropped).to_numpy()
        if not kept.all():
            self.inter_feat.drop(self.inter_feat.index[~kept], inplace=True)

    def _described(self) -> list[tuple[pd.DataFrame, str]]:
        """The tables of users and items that there are, with the field of their tokens."""
        tables = ((self.user_feat, self.uid_field), (self.item_feat, self.iid_field))
        return [(feat, field) for feat, field in tables if feat is not None]

    def _filter_by_inter_num(self) -> None:
        # RecBole counts every user and item in Python even when there is nothing to filter.
        if loading.counts_are_filtered(self.config):
            super()._filter_by_inter_num()

    def _reset_index(self) -> None:
        self._kept_rows = self.inter_feat.index.to_numpy()
        super()._reset_index()

    # ------------------------------------------------------------------------------------------------ domains
    def _remap(self, remap_list: list) -> None:
        super()._remap(remap_list)
        if any(field == self.iid_field for _, field, _ in remap_list):
            self._number_items_by_domain(remap_list)

    def _number_items_by_domain(self, remap_list: list) -> None:
        """Renumber items so that each domain is one block, keeping RecBole's order inside a block."""
        codes, names = pd.factorize(self.item_feat[self.config["DOMAIN_FIELD"]])
        domains = np.full(self.item_num, -1, dtype=np.int64)
        domains[self.item_feat[self.iid_field].to_numpy()] = codes
        if (domains[1:] < 0).any():
            token = self.field2id_token[self.iid_field][1:][domains[1:] < 0][0]
            raise DataError(f"{self._item_file}: item '{token}' of an alias_of_item_id column is not there; add it.")
        blocks = domain_blocks(domains, len(names))
        for feat, field, field_type in remap_list:
            if field_type == FeatureType.TOKEN:
                feat[field] = blocks.new_ids[feat[field].to_numpy()]
            else:
                feat[field] = [blocks.new_ids[ids] for ids in feat[field]]
        tokens = self.field2id_token[self.iid_field][blocks.old_ids]
        ids = {token: index for index, token in enumerate(tokens)}
        for _, field, _ in remap_list:
            self.field2id_token[field], self.field2token_id[field] = tokens, ids
        self.domain_names: list[str] = [str(name) for name in names]
        self.item_domain: np.ndarray = blocks.item_domain
        self.domain_offsets: np.ndarray = blocks.offsets

    # ------------------------------------------------------------------------------------------------ splits
    def _remap_ID_all(self) -> None:
        super()._remap_ID_all()
        users, items = self.inter_feat[self.uid_field].to_numpy(), self.inter_feat[self.iid_field].to_numpy()
        # Taken here, before times are normalised or cast to float32 (steps of 128 s today).
        times = self.inter_feat[self.time_field].to_numpy(dtype=np.float64)
        if self.is_pre_split:
            self.log = pre_split(users, items, times, self._part_sizes)
        else:
            self.log = leave_one_out(users, items, times)
            self._say_who_is_not_judged()

    def _say_who_is_not_judged(self) -> None:
        n_users, n_tested, n_validated = len(self.log.segment_starts), len(self.log.test), len(self.log.valid)
        if n_validated == n_users:
            return
        nobody = " Nobody is validated, so that every epoch is trained and the last one judged." * (not n_validated)
        self.logger.log(
            logging.INFO if n_validated else logging.WARNING,
            "Leave-one-out tests users of three interactions or more and validates users of four or more: of "
            f"{n_users} users {n_users - n_tested} are trained on only, and {n_tested - n_validated} are not "
            f"validated.{nobody}",
        )

    def _dataframe_to_interaction(self, data: pd.DataFrame) -> Interaction:
        # RecBole hands pandas' own arrays to torch, which pandas 3 gives out read-only; these are copies.
        dtypes = {FeatureType.TOKEN: torch.int64, FeatureType.FLOAT: torch.float32}
        plain = [
            field
            for field in data
            if self.field2type[field] in dtypes and field not in self.config["numerical_features"]
        ]
        others = super()._dataframe_to_interaction(data[[field for field in data if field not in plain]])
        tensors = {field: torch.tensor(data[field].to_numpy(), dtype=dtypes[self.field2type[field]]) for field in plain}
        return Interaction({field: tensors[field] if field in tensors else others[field] for field in data})

    @cached_property
    def fold_in(self) -> bool:
        """Whether the model is also trained on the input histories of held-out users (protocol, point 3)."""
        held_out = bool((self.log.segment_parts != TRAIN).any())
        return bool(self.config["fold_in"]) and held_out and has_user_table(self.config.model_class)

    def training_histories(self, held_out: bool = True) -> Histories:
        """Every user's input history: the training part, or everything before the target of a held-out user.

        Without `held_out` the training part alone, for what may be drawn from training rows only.
        """
        key = "histories" if held_out else "training_part"
        if key not in self._shared:
            self._shared[key] = self.log.histories(held_out)
        return self._shared[key]

    @property
    def llm_features(self) -> LLMFeatures:
        """LLM features of this dataset, built when first read."""
        if "llm_features" not in self._shared:
            self._shared["llm_features"] = build_llm_features(self.config, self)
        return self._shared["llm_features"]

    @property
    def pseudo_items(self) -> PseudoItems:
        """Pseudo items of this dataset's single-domain users, built when first read."""
        if "pseudo_items" not in self._shared:
            self._shared["pseudo_items"] = build_pseudo_items(self.config, self)
        return self._shared["pseudo_items"]

    @property
    def prefix_profiler(self) -> PrefixProfiler | None:
        """Makes profiles of training rows that do not know the row's target; None where nothing can."""
        if "prefix_profiler" not in self._shared:
            self._shared["prefix_profiler"] = prefix_profiler(self.config, self)
        return self._shared["prefix_profiler"]

    @property
    def features_provenance(self) -> dict[str, Any] | None:
        """Who made `llm_features`, from what; None as long as nothing has read them."""
        features = self._shared.get("llm_features")
        return None if features is None else features.provenance

    @property
    def pseudo_items_provenance(self) -> dict[str, Any] | None:
        """Who named `pseudo_items`, from what; None as long as nothing has read them."""
        pseudo = self._shared.get("pseudo_items")
        return None if pseudo is None else pseudo.provenance

    def _judged(self, phase: str) -> tuple[Rows, np.ndarray]:
        """The rows of a split in the order in which RecBole has them, and their places in the log's order."""
        rows = self.log.valid if phase == "valid" else self.log.test
        places = np.arange(len(rows)) if self.is_pre_split else self._recbole_user_order(rows)
        return rows.take(places), places

    def evaluation_rows(self) -> EvaluationRows:
        """The rows of this split, as the evaluator takes them; the same for every model.

        Raises
        ------
        ValueError
            On a dataset that is not a validation or test split.
        """
        if self.phase not in ("valid", "test"):
            raise ValueError(f"A {self.phase or 'whole'} dataset has no rows to judge.")
        log = self.log
        rows, places = self._judged(self.phase)
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
            row_keys=places,
        )

    def judged_users_unseen(self) -> np.ndarray:
        """bool ``[R]``: rows of this split whose user a user table would not know."""
        trained = self.log.users[self.log.training_positions(self.fold_in)]
        return ~np.isin(self.log.users[self._judged(self.phase)[0].targets], trained)

    def __str__(self) -> str:
        lines = [super().__str__()]
        sizes = np.diff(self.domain_offsets)
        domains = ", ".join(f"{name} ({size} items)" for name, size in zip(self.domain_names, sizes, strict=True))
        lines.append(f"Domains: {domains}")
        if self.card is not None:
            lines.append(self.card.describe())
        return "\n".join(lines)
