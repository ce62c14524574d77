"""Stage 2 of LLMCDSR: train the collaborative-textual model of each domain, once for the same content."""

from __future__ import annotations

import glob
import hashlib
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from recbole_cdsr.config_reading import whole_number
from recbole_cdsr.errors import CDSRError, CheckpointError, DataError, FeatureError
from recbole_cdsr.evaluator.counting import better_and_equal, shared_ranks
from recbole_cdsr.llm.matrix import check_finite
from recbole_cdsr.llm.settings import FeatureSettings
from recbole_cdsr.llm.store import check_writable
from recbole_cdsr.locks import one_at_a_time
from recbole_cdsr.model.collaborative_textual import CollaborativeTextualModel
from recbole_cdsr.model.packed_windows import PackedWindows
from recbole_cdsr.model.pretraining_settings import PretrainingSettings
from recbole_cdsr.model.settings import thread_settings
from recbole_cdsr.trainer.checkpoint import load_checkpoint, save_checkpoint
from recbole_cdsr.trainer.patience import patience
from recbole_cdsr.trainer.pretraining_data import DomainSequences

FORMAT = 1
_KEPT = {"made_from", "projection", "items", "provenance"}
RANKED_TO = 10
ROWS_AT_ONCE = 256
SCORED_AT_ONCE = 64  # rows whose scores stay in a processor's cache


@dataclass(frozen=True)
class AlignedDomain:
    """What stage 2 gives for a domain.

    Attributes
    ----------
    projection : Tensor
        float32 ``[d, D]``, P_k.
    items : Tensor
        float32 ``[n_k, d]``, e_k.
    provenance : dict
        Plain data: key, epochs, best epoch, HR@10 on held-out last items.
    """

    projection: Tensor
    items: Tensor
    provenance: dict[str, Any]


def aligned_domains(config: Any, dataset: Any, domains: Iterable[int]) -> dict[int, AlignedDomain]:
    """Stage 2 of some domains: read where the same has been trained before, else trained now and kept.

    Kept in ``pretraining/`` beside the text features, named by what they follow from: sequences, texts,
    hyper-parameters, seed. A domain that was interrupted goes on after its last whole epoch, and so does one that
    ``pretrain_epochs`` ended, once that is raised. The global random state stays as it is, so that it does not matter
    to a run whether something was kept.

    Parameters
    ----------
    config : mapping or RecBole Config
        Keys of ``props/model/LLMCDSR.yaml``.
    dataset : CrossDomainSequentialDataset
        Any split.
    domains : iterable of int
        Their places among the dataset's.

    Raises
    ------
    DataError
        A domain has no sequence to learn from.
    FeatureError
        Texts are not finite, nothing can be written, or what was kept is damaged.
    CDSRError
        The loss is not finite.
    """
    folder = FeatureSettings(config, dataset.dataset_name).features_dir / "pretraining"
    return {domain: _aligned_domain(config, dataset, domain, folder) for domain in domains}


def _aligned_domain(config: Any, dataset: Any, domain: int, folder: Path) -> AlignedDomain:
    settings, name = PretrainingSettings.from_config(config), dataset.domain_names[domain]
    start, stop = dataset.domain_offsets[domain : domain + 2]
    texts = np.ascontiguousarray(dataset.llm_features.items[start:stop])  # [n_k, D]
    check_finite(texts, f"The text features of domain {name} hold", "make them anew")
    sequences = DomainSequences(dataset, domain)
    settings = _patient(settings, config, len(sequences.trained))
    thread = thread_settings(config, config["positions"])
    made_from = {
        "format": FORMAT,
        "domain": name,
        "place": domain,  # among the domains, which seeds it
        "sequences_sha256": sequences.sha256(),
        "texts_sha256": hashlib.sha256(texts.data).hexdigest(),
        "thread": thread,
        "settings": asdict(settings),
    }
    key = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]
    path = folder / f"{name}-{key}.pth"
    _warn_of_nobody_to_validate(sequences, settings, name)
    if path.is_file():
        return _reused(path, _read(path, made_from), name, settings)
    if not len(sequences.trained):
        raise DataError(
            f"Domain {name} has no user with two training items in it; LLMCDSR cannot be pre-trained there."
        )
    check_writable(folder)
    logger = logging.getLogger()
    with one_at_a_time(path.with_suffix(".lock"), f"Pre-training of {name}"):
        if path.is_file():  # trained while this run waited
            return _reused(path, _read(path, made_from), name, settings)
        if (other := _under_another_cap(folder, made_from, settings)) is not None:
            return _reused(*other, name, settings)
        logger.info(
            f"Pre-training of {name}: {len(sequences.trained)} sequences, {sequences.n_items} items, at most "
            f"{settings.epochs} epochs, {settings.stopping_step} without a better one …"
        )
        began = perf_counter()
        device = torch.device(config["device"])
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            run = DomainPretraining(texts, thread, settings, sequences, domain, device)
            unfinished = path.with_suffix(".unfinished")
            run.go_on_from(_files_of(name, folder, ".unfinished"), unfinished, made_from, name)
            result = run.finish(unfinished, made_from, name, bool(config["show_progress"]))
        _save(path, {"made_from": made_from, **asdict(result)})
        told = _told(result, key, settings)
        if not told.provenance["capped"]:  # else a raised cap goes on from it
            unfinished.unlink(missing_ok=True)
    logger.info(f"Pre-training of {name}: done in {perf_counter() - began:.0f} s, {_said(result)} ({path}).")
    return told


def _but_for_the_cap(made_from: dict[str, Any] | None) -> dict[str, Any] | None:
    return made_from and made_from | {"settings": made_from["settings"] | {"epochs": None}}


def _files_of(name: str, folder: Path, suffix: str) -> list[Path]:
    return sorted(folder.glob(f"{glob.escape(name)}-*{suffix}"))


def _under_another_cap(
    folder: Path, made_from: dict[str, Any], settings: PretrainingSettings
) -> tuple[Path, dict[str, Any]] | None:
    """A pre-training whose patience ended it within `settings.epochs`: under any such cap it is the same one."""
    for path in _files_of(made_from["domain"], folder, ".pth"):
        try:
            state = load_checkpoint(path)
        except CheckpointError:  # damaged, and another one's
            continue
        if not state.keys() >= _KEPT or _but_for_the_cap(state["made_from"]) != _but_for_the_cap(made_from):
            continue
        said = state["provenance"]
        if said["epochs"] <= settings.epochs and said["epochs"] - said["best_epoch"] > settings.stopping_step:
            return path, state
    return None


def _patient(settings: PretrainingSettings, config: Any, n_sequences: int) -> PretrainingSettings:
    """The settings with the epochs that `pretrain_stopping_updates` steps take, where those are more."""
    updates = whole_number(config, "pretrain_stopping_updates", 0, default=0)
    steps_per_epoch = -(-max(n_sequences, 1) // settings.batch_size)
    return replace(settings, stopping_step=patience(settings.stopping_step, updates, steps_per_epoch))


def _warn_of_nobody_to_validate(sequences: DomainSequences, settings: PretrainingSettings, name: str) -> None:
    if not len(sequences.trained) or (len(sequences.validated) and settings.valid_users):
        return
    why = "pretrain_valid_users is 0" if len(sequences.validated) else "no user has three training items there"
    logging.getLogger().warning(
        f"Pre-training of {name} cannot be validated ({why}): it takes all {settings.epochs} epochs (pretrain_epochs) "
        "and keeps the last, and its runs are marked `budget`."
    )


def _reused(path: Path, state: dict[str, Any], name: str, settings: PretrainingSettings) -> AlignedDomain:
    found = AlignedDomain(state["projection"], state["items"], state["provenance"])
    logging.getLogger().info(f"Pre-training of {name}: reused, {_said(found)} ({path}).")
    return _told(found, path.stem.rsplit("-", 1)[-1], settings)


def _told(domain: AlignedDomain, key: str, settings: PretrainingSettings) -> AlignedDomain:
    """The domain with the key of its file, and whether `pretrain_epochs` ended it before its patience did.

    Where nobody can be validated, nothing but `pretrain_epochs` ends it, and nobody knows whether it was enough.
    """
    said = domain.provenance
    waited = said["epochs"] - said["best_epoch"]
    capped = said["epochs"] >= settings.epochs and waited <= settings.stopping_step
    return AlignedDomain(domain.projection, domain.items, said | {"capped": capped, "key": key})


def _read(path: Path, made_from: dict[str, Any]) -> dict[str, Any]:
    try:
        path.open("rb").close()
        state = load_checkpoint(path)
    except OSError as error:
        raise FeatureError(f"{path} cannot be read ({error.strerror}); make it readable for you.") from error
    except CheckpointError as error:
        raise FeatureError(
            f"{path} is damaged or of another version; delete it, and the next run pre-trains anew."
        ) from error
    if not state.keys() >= _KEPT or state["made_from"] != made_from:
        raise FeatureError(f"{path} is not what its name says; delete it, and the next run pre-trains anew.")
    return state


def _save(path: Path, state: dict[str, Any]) -> None:
    try:
        save_checkpoint(path, state, "llm_features_dir")
    except CheckpointError as error:
        raise FeatureError(str(error)) from error


def _said(domain: AlignedDomain) -> str:
    said = domain.provenance
    rank = "nobody to validate" if said["hit@10"] is None else f"HR@10 {said['hit@10']:.4f} on held-out last items"
    return f"{said['epochs']} epochs, best {said['best_epoch']}, {rank}"


class DomainPretraining:
    """The training loop of one domain; every epoch draws from its own seed, so that going on needs no random state.

    Parameters
    ----------
    texts
        float32 ``[n_k, D]``.
    thread
        Keyword arguments of `SASRecThread`.
    settings, sequences, domain, device
        Of the domain.
    """

    def __init__(
        self,
        texts: np.ndarray,
        thread: dict[str, Any],
        settings: PretrainingSettings,
        sequences: DomainSequences,
        domain: int,
        device: torch.device,
    ) -> None:
        self._settings, self._sequences, self._device = settings, sequences, device
        self._seed, self._longest = (settings.seed, domain), thread["window"]
        torch.manual_seed(self._entropy(0))
        self.model = CollaborativeTextualModel(texts, thread, settings.nce_weight, settings.temperature).to(device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), settings.learning_rate, fused=True)
        random = np.random.RandomState(self._entropy(0))
        validated = sequences.validated
        self._judged = random.permutation(validated)[: settings.valid_users]
        self.epoch = 0
        self.best: dict[str, Any] = {"epoch": 0, "hit@10": None, "state": None}

    def _entropy(self, epoch: int) -> int:
        return int(np.random.SeedSequence([*self._seed, epoch]).generate_state(1)[0])

    def go_on_from(self, candidates: Sequence[Path], own: Path, made_from: dict[str, Any], name: str) -> None:
        """Take over the latest of the states that are on the way to this end.

        Parameters
        ----------
        candidates
            Files that may hold one; those of the same pre-training under another cap count.
        own
            The one that must be usable when it is there.
        made_from
            What the pre-training follows from.
        name
            Of the domain.

        Raises
        ------
        FeatureError
            `own` is damaged.
        """
        latest, source = None, own
        for path in candidates:
            try:
                state = load_checkpoint(path)
            except CheckpointError as error:
                if path == own:
                    raise _useless(own) from error
                continue
            fits = path == own or self._leads_here(state, made_from)
            if fits and (latest is None or state.get("epoch", 0) > latest.get("epoch", 0)):
                latest, source = state, path
        if latest is None:
            return
        try:
            self.model.load_state_dict(latest["model"])
            self.optimizer.load_state_dict(latest["optimizer"])
            self.epoch, self.best = latest["epoch"], latest["best"]
        except (KeyError, RuntimeError, ValueError) as error:
            raise _useless(source) from error
        logging.getLogger().info(f"Pre-training of {name}: going on after epoch {self.epoch} ({source}).")

    def _leads_here(self, state: dict[str, Any], made_from: dict[str, Any]) -> bool:
        same = _but_for_the_cap(state.get("made_from")) == _but_for_the_cap(made_from)
        return same and state.get("epoch", 0) <= self._settings.epochs

    def finish(self, unfinished: Path, made_from: dict[str, Any], name: str, show_progress: bool) -> AlignedDomain:
        """Train until no better epoch has come for `settings.stopping_step` epochs, from wherever it was left.

        Its state after each epoch is kept in `unfinished`, with what it follows from.
        """
        settings = self._settings
        while self.epoch < settings.epochs and self.epoch - self.best["epoch"] <= settings.stopping_step:
            self.epoch += 1
            torch.manual_seed(self._entropy(self.epoch))
            loss = self._train_epoch(np.random.RandomState(self._entropy(self.epoch)), name, show_progress)
            rate = self._hit_rate() if len(self._judged) else None
            if rate is None or self.best["hit@10"] is None or rate > self.best["hit@10"]:
                state = {key: value.detach().cpu().clone() for key, value in self.model.state_dict().items()}
                self.best = {"epoch": self.epoch, "hit@10": rate, "state": state}
            said = "" if rate is None else f", HR@10 {rate:.4f}"
            logging.getLogger().info(f"Pre-training of {name}: epoch {self.epoch}, loss {loss:.4f}{said}")
            self._keep(unfinished, made_from)
        state = self.best["state"]
        provenance = {"epochs": self.epoch, "best_epoch": self.best["epoch"], "hit@10": self.best["hit@10"]}
        return AlignedDomain(state["projection.weight"], state["item_embedding.weight"][1:].clone(), provenance)

    def _train_epoch(self, random: np.random.RandomState, name: str, show_progress: bool) -> float:
        self.model.train()
        order = random.permutation(self._sequences.trained)
        batches = np.array_split(order, -(-len(order) // self._settings.batch_size))
        total = 0.0
        for chosen in tqdm(batches, desc=f"Pre-train {name} {self.epoch:>3}", ncols=100, disable=not show_progress):
            batch = self._sequences.training_batch(chosen, self._longest, random).to(self._device)
            loss = self.model.total_loss(batch)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += loss.item()
        if not np.isfinite(total):
            raise CDSRError(
                f"The pre-training loss of {name} became {total} in epoch {self.epoch}; try a smaller "
                f"pretrain_learning_rate (now {self._settings.learning_rate:g})."
            )
        return total / len(batches)

    @torch.no_grad()
    def _hit_rate(self) -> float:
        """HR@10 of held-out last items among all items of the domain, ties shared."""
        self.model.eval()
        table, hits = self.model.item_embedding.weight[1:], 0.0
        at_once = SCORED_AT_ONCE if self._device.type == "cpu" else ROWS_AT_ONCE
        for part in range(0, len(self._judged), ROWS_AT_ONCE):
            chosen = self._judged[part : part + ROWS_AT_ONCE]
            lengths, items, targets = (
                column.to(self._device) for column in self._sequences.validation_batch(chosen, self._longest)
            )
            states = self.model.last_states(PackedWindows.from_lengths(lengths), items)  # [R, d]
            for h, v in zip(states.split(at_once), targets.split(at_once), strict=True):
                scores = (table @ h.T.contiguous()).T  # [r, n_k], item by item in memory: the faster product
                ranks = shared_ranks(*better_and_equal(scores, scores.gather(1, v[:, None] - 1)))
                hits += float((ranks <= RANKED_TO).sum())
        return hits / len(self._judged)

    def _keep(self, unfinished: Path, made_from: dict[str, Any]) -> None:
        state = {
            "made_from": made_from,
            "epoch": self.epoch,
            "best": self.best,
            "model": dict(self.model.state_dict()),
            "optimizer": self.optimizer.state_dict(),
        }
        _save(unfinished, state)


def _useless(unfinished: Path) -> FeatureError:
    return FeatureError(f"{unfinished} cannot be gone on with; delete it, and pre-training starts anew.")
