"""The thin layer over whichever trainer RecBole would pick for a model.

RecBole trains, stops early and logs. This layer judges (protocol outside the model), selects (overall, by one domain,
or a checkpoint per domain) and keeps the run: `last` every epoch, `best` when the selection improves, resumable.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from time import time
from typing import Any

import torch
from recbole.data.dataloader import AbstractDataLoader
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import ModelType, set_color

from recbole_cdsr.config import OUR_MODELS, CDSRConfig
from recbole_cdsr.data.dataset import CrossDomainDataset
from recbole_cdsr.errors import CDSRError, CheckpointError, ConfigError
from recbole_cdsr.evaluator.protocol import ProtocolEvaluator
from recbole_cdsr.evaluator.report import EvaluationReport
from recbole_cdsr.model.injection_settings import KEY, OFF
from recbole_cdsr.model.inner_step import adam_betas
from recbole_cdsr.trainer.checkpoint import load_checkpoint, model_state, restore_model, save_checkpoint
from recbole_cdsr.trainer.continuation import material_of, optimizer_states, restore_optimizers
from recbole_cdsr.trainer.judging import FullScores, protocol_evaluator, score_rows
from recbole_cdsr.trainer.patience import patience
from recbole_cdsr.trainer.plain_attributes import PlainAttributes
from recbole_cdsr.trainer.random_states import random_states, restore_random_states
from recbole_cdsr.trainer.run_directory import RunDirectory
from recbole_cdsr.trainer.selection import DomainSelection, check_valid_metric
from recbole_cdsr.trainer.whole_writes import WholeWrites


class CDSRTrainerMixin:
    """Judging, selecting and keeping; put over a RecBole trainer by `trainer_class_for`.

    Attributes
    ----------
    run
        The run's directory; made by `fit` when it saves.
    report
        `EvaluationReport` of the latest evaluation.
    best_epoch
        Epoch (0-based) of the selected state; None where nothing was selected.
    domain_selection
        With `select: per_domain` the best epoch and results of each domain, else None.
    valid_scores
        What each validated epoch (0-based) was judged by for the selection.
    seconds
        Wall-clock seconds spent in `training` and `evaluation` (validation and test), resumed parts included.
    started
        `time.time()` when this process began the job; its construction, unless the caller knows better.
    seconds_before
        Wall-clock seconds of the processes that this one goes on with, up to their last kept epoch.
    notes
        What a trainer of one of our models did before training, as plain data for the result.
    """

    def __init__(self, config: CDSRConfig, model: AbstractRecommender) -> None:
        if (config[KEY] or OFF) != OFF and not hasattr(model, "llm_injection"):
            raise ConfigError(
                f"{KEY} is {config[KEY]!r}, but nothing was injected into this {config['model']}; train it by "
                "run_recbole_cdsr, or call recbole_cdsr.model.injection.inject first."
            )
        try:
            # RecBole looks for it and then makes it, which trips when two runs start at once.
            with suppress(FileExistsError):  # a file of that name: the run directory says so
                Path(config["checkpoint_dir"]).mkdir(parents=True, exist_ok=True)
            super().__init__(config, model)
        except OSError as error:
            place = error.filename or config["checkpoint_dir"]
            raise ConfigError(
                f"{place} cannot be made ({error.strerror}); set checkpoint_dir to a writable folder, and start the "
                "command in one."
            ) from error
        except ImportError as error:  # log_wandb without the package
            raise ConfigError(
                "log_wandb: the package wandb is not installed; install it, or remove the key."
            ) from error
        self.tensorboard = WholeWrites(self.tensorboard)
        self.eval_step = min(self.eval_step, self.epochs)  # RecBole's trainer of Pop and ItemKNN cuts epochs later
        self.run = RunDirectory(config)
        if self.run.resumed:
            self.saved_model_file = str(self.run.best())
        self.report: EvaluationReport | None = None
        self.best_epoch: int | None = None
        self.domain_selection: DomainSelection | None = None
        if config["select"] == "per_domain":
            self.domain_selection = DomainSelection(self.valid_metric, self.valid_metric_bigger)
        self.valid_scores: dict[int, float] = {}
        self.seconds = {"training": 0.0, "evaluation": 0.0}
        self.started = time()
        self.seconds_before = 0.0
        self.notes: dict[str, Any] = {}
        self._attributes = PlainAttributes(model)
        self._evaluators: dict[str, tuple[CrossDomainDataset, ProtocolEvaluator]] = {}
        self._train_data: AbstractDataLoader | None = None
        self._material: dict[str, str | None] | None = None
        self._validates = False
        self._keeps = False
        self._epoch = -1

    # ------------------------------------------------------------------------------------------------ training
    def _build_optimizer(self, **kwargs: Any) -> torch.optim.Optimizer:
        optimizer = super()._build_optimizer(**kwargs)
        # One pass over an item table instead of nine. Baselines keep RecBole's own arithmetic.
        if self.config["model"] in OUR_MODELS and isinstance(optimizer, (torch.optim.Adam, torch.optim.AdamW)):
            for group in optimizer.param_groups:
                group["fused"] = True
                if self.config["adam_betas"] is not None:
                    group["betas"] = adam_betas(self.config)
        return optimizer

    def fit(
        self,
        train_data: AbstractDataLoader,
        valid_data: AbstractDataLoader | None = None,
        verbose: bool = True,
        saved: bool = True,
        show_progress: bool = False,
        callback_fn: Callable[[int, float], None] | None = None,
    ) -> tuple[float, dict[str, float]]:
        """Train with RecBole's loop; see `recbole.trainer.Trainer.fit`.

        Raises
        ------
        CDSRError
            The loss became NaN, the selection cannot be made, or a resumed checkpoint belongs to another run.
        """
        if valid_data is not None:
            dataset = valid_data._dataset
            check_valid_metric(self.config["valid_metric"], dataset.domain_names, dataset.evaluation_rows())
            self._settle_patience(train_data)
        self._train_data = train_data
        self._material = self._material_of(train_data._dataset)
        self._validates = bool(valid_data) and self.eval_step > 0
        self._keeps = saved
        if saved:
            self.run.open()
            self.saved_model_file = str(self.run.best())
            self.logger.info(set_color("Run directory", "blue") + f": {self.run.path}")

        def after_validation(epoch: int, score: float) -> None:
            self.valid_scores[epoch] = float(score)
            self._keep_epoch(epoch)
            if callback_fn is not None:
                callback_fn(epoch, score)

        with self.run.alone() if saved else nullcontext():
            if self.run.resumed:
                self.resume_checkpoint(self.run.last)
            return super().fit(train_data, valid_data, verbose, saved, show_progress, after_validation)

    def _settle_patience(self, train_data: AbstractDataLoader) -> None:
        updates = self.config["stopping_updates"] or 0
        between = len(train_data) * max(self.eval_step, 1)
        waited = patience(self.config["stopping_step"], updates, max(between, 1))
        if waited > self.stopping_step:
            self.logger.info(
                f"Early stopping waits for {waited} validations instead of {self.stopping_step}, {between} steps "
                f"each, so that it waits for {updates} steps (stopping_updates)."
            )
        self.stopping_step = waited

    def _material_of(self, dataset: CrossDomainDataset) -> dict[str, str | None]:
        """SHA-256 of what the run learns from, by name; a trainer that reads more adds it."""
        return material_of(dataset)

    def _train_epoch(
        self,
        train_data: AbstractDataLoader,
        epoch_idx: int,
        loss_func: Callable[[Interaction], torch.Tensor] | None = None,
        show_progress: bool = False,
    ) -> float | tuple[float, ...]:
        start = time()
        self._epoch = epoch_idx
        loss = super()._train_epoch(train_data, epoch_idx, loss_func=loss_func, show_progress=show_progress)
        self.seconds["training"] += time() - start
        return loss

    def _check_nan(self, loss: torch.Tensor) -> None:
        # With a gradient scaler an infinite loss is skipped and the scale lowered.
        if torch.isfinite(loss) or (self.enable_scaler and not torch.isnan(loss)):
            return
        kept = f" The epochs before are kept in {self.run.path}." if self._keeps and self.run.last.is_file() else ""
        raise CDSRError(
            f"The training loss of {self.config['model']} became {loss.item()} in epoch {self._epoch}; try a smaller "
            f"learning_rate (now {self.config['learning_rate']:g}) or set clip_grad_norm, as in "
            f"{{max_norm: 5}}.{kept}"
        )

    @property
    def ended_by_cap(self) -> bool:
        """Whether `epochs` ended training while early stopping still waited for a better validation."""
        counted_once = self.config["MODEL_TYPE"] == ModelType.TRADITIONAL  # such as Pop: one epoch is all there is
        at_cap = len(self.train_loss_dict) >= self.config["epochs"]
        return self._validates and at_cap and not self._stopped_early and not counted_once

    @property
    def _stopped_early(self) -> bool:
        return self.cur_step > self.stopping_step

    # ------------------------------------------------------------------------------------------------ judging
    def _evaluator(self, dataset: CrossDomainDataset) -> ProtocolEvaluator:
        """One evaluator per split; its sampled candidates serve every pass."""
        known, evaluator = self._evaluators.get(dataset.phase, (None, None))
        if known is not dataset:
            evaluator = protocol_evaluator(self.config, dataset.evaluation_rows())
            self._evaluators[dataset.phase] = (dataset, evaluator)
        return evaluator

    @torch.no_grad()
    def evaluate(
        self,
        eval_data: AbstractDataLoader | None,
        load_best_model: bool = True,
        model_file: str | Path | None = None,
        show_progress: bool = False,
    ) -> OrderedDict[str, float] | None:
        """Judge the model; the whole report stays in `report`.

        Parameters
        ----------
        eval_data
            Loader of a validation or test split.
        load_best_model
            Judge the selected checkpoint (each domain's own with `select: per_domain`) instead of the present state.
        model_file
            A checkpoint of this model to judge instead.

        Returns
        -------
        OrderedDict
            RecBole's flat form for the first entry of `eval_candidates`: `ndcg@10` overall, `ndcg@10_<domain>`; empty
            for a split without rows. None without `eval_data`.

        Raises
        ------
        CDSRError
            The checkpoint is missing or broken, or a score is NaN.
        """
        if eval_data is None:
            return None
        start = time()
        evaluator = self._evaluator(eval_data._dataset)
        evaluator.start()
        self.model.eval()
        scores = FullScores(self.model, eval_data._dataset, self.test_batch_size, self.device)
        if len(eval_data._dataset):  # else the report counts 0 rows, and no checkpoint may be there to load
            for path, domain in self._states_to_judge(eval_data, load_best_model, model_file):
                if path is not None:
                    self._load_model(path)
                score_rows(scores, evaluator, eval_data, domain, show_progress)
        self.report = evaluator.finish()
        self.seconds["evaluation"] += time() - start
        result = OrderedDict(self.report.flat())
        self.wandblogger.log_eval_metrics(result, head="eval")
        return result

    def _states_to_judge(
        self, eval_data: AbstractDataLoader, load_best_model: bool, model_file: str | Path | None
    ) -> list[tuple[str | Path | None, int | None]]:
        """Checkpoints (None: the present state) with the domain whose rows each is to score (None: all rows)."""
        if not load_best_model:
            return [(None, None)]
        if self.domain_selection is None or model_file is not None:
            return [(model_file or self.saved_model_file, None)]
        own = [self.run.best(name) for name in eval_data._dataset.domain_names]
        # A domain without validation rows has no checkpoint of its own.
        return [(path if path.is_file() else self.run.best(), domain) for domain, path in enumerate(own)]

    def _load_model(self, path: str | Path) -> None:
        restore_model(self.model, load_checkpoint(Path(path)), path)
        self.logger.info(f"Loading model structure and parameters from {path}")

    def _valid_epoch(
        self, valid_data: AbstractDataLoader, show_progress: bool = False
    ) -> tuple[float, OrderedDict[str, float]]:
        result = self.evaluate(valid_data, load_best_model=False, show_progress=show_progress)
        if self.domain_selection is not None:
            return self.domain_selection.update(self._epoch, result), result
        return result[self.valid_metric], result

    # ------------------------------------------------------------------------------------------------ keeping
    def _model_state(self, epoch: int) -> dict[str, Any]:
        return {
            "model": self.config["model"],
            "dataset": self.config["dataset"],
            "config": self.config.plain(),
            "fingerprint": self.config.fingerprint(),
            "epoch": epoch,
            "material": self._material,
            **model_state(self.model),
        }

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
        """Keep the selected state; RecBole calls this when the selection improved, and every epoch without validation.

        `last` is written after `best`, so that a run killed in between repeats the epoch and writes both again.
        """
        if epoch < 0 and self.run.resumed:
            return  # nothing left to train: what was selected stays
        if self.domain_selection is None or not self._validates:
            save_checkpoint(self.run.best(), self._model_state(epoch))
        if not self._validates:
            self.best_epoch = epoch if epoch >= 0 else None
            self._save_last(epoch)
        if verbose:
            self.logger.info(set_color("Saving current", "blue") + f": {self.run.path}")

    def save_pretrained_model(self, epoch: int, saved_model_file: str) -> None:
        """Keep a pre-trained state as plain data; called by the trainers of RecBole that pre-train (S3Rec, RaCT)."""
        save_checkpoint(Path(saved_model_file), self._model_state(epoch))

    def pretrain(self, *args: Any, **kwargs: Any) -> tuple[float, dict[str, float] | None]:
        """Pre-train with RecBole's loop, and keep the state of the last epoch as this run's own.

        RecBole's file, which a later stage is told of, has the same name for every seed and is written every
        `save_step` epochs only.
        """
        outcome = super().pretrain(*args, **kwargs)
        if self._keeps:
            save_checkpoint(self.run.best(), self._model_state(self.pretrain_epochs - 1))
        return outcome

    def _keep_epoch(self, epoch: int) -> None:
        """Remember and keep what a validation selected, then the epoch itself."""
        selection = self.domain_selection
        if selection is None:
            if self.cur_step == 0:  # RecBole resets it when the selection improves
                self.best_epoch = epoch
        elif self._keeps:
            for name in selection.improved:
                save_checkpoint(self.run.best(name), self._model_state(epoch))
            names = self._train_data._dataset.domain_names
            if selection.overall_improved and len(selection.scores) < len(names):
                save_checkpoint(self.run.best(), self._model_state(epoch))
        if self._keeps:
            self._save_last(epoch)

    def _add_train_loss_to_tensorboard(
        self, epoch_idx: int, losses: float | tuple[float, ...], tag: str = "Loss/Train"
    ) -> None:
        super()._add_train_loss_to_tensorboard(epoch_idx, losses, tag)
        # The one call of RecBole's loop after every epoch; nothing else tells of those that are not validated.
        if self._keeps and self._validates and (epoch_idx + 1) % self.eval_step != 0:
            self._save_last(epoch_idx)

    def _save_last(self, epoch: int) -> None:
        state = self._model_state(epoch)
        state["attributes"] = self._attributes.changed()
        state["optimizers"] = optimizer_states(self)
        state["random"] = random_states(self.device)
        state["loader"] = self._train_data.generator.get_state()
        state["selection"] = {
            "cur_step": self.cur_step,
            "best_valid_score": float(self.best_valid_score),
            "best_valid_result": dict(self.best_valid_result or {}),
            "best_epoch": self.best_epoch,
            "domains": None if self.domain_selection is None else self.domain_selection.state(),
            "train_losses": dict(self.train_loss_dict),
            "valid_scores": dict(self.valid_scores),
            "seconds": dict(self.seconds),
            "seconds_total": self.seconds_before + time() - self.started,
            "notes": self.notes,
        }
        save_checkpoint(self.run.last, state)

    def resume_checkpoint(self, resume_file: str | Path) -> None:
        """Go on where a run stopped, as if it had not.

        Parameters
        ----------
        resume_file
            A `last.pth`.

        Raises
        ------
        CheckpointError
            It cannot be read, or belongs to a run configured otherwise or on other data or features.
        """
        state = load_checkpoint(Path(resume_file))
        try:
            self.run.check_same_run(state, self._material)
            restore_model(self.model, state, resume_file)
            self._attributes.restore(state.get("attributes", {}))  # checkpoints of before they were kept have none
            restore_optimizers(self, state["optimizers"])
            self._restore_selection(state["selection"])
            self._epoch = state["epoch"]
            self.start_epoch = self.epochs if self._stopped_early else state["epoch"] + 1
            restore_random_states(state["random"])
            if self._train_data is not None:
                self._train_data.generator.set_state(state["loader"])
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise CheckpointError(
                f"{resume_file} is no complete checkpoint of a run ({type(error).__name__}: {error}); start anew "
                "in another run directory."
            ) from error
        going_on = f"from epoch {self.start_epoch}" if self.start_epoch < self.epochs else "with nothing left to train"
        self.logger.info(f"Checkpoint loaded from {resume_file}. Resume {going_on}.")

    def _restore_selection(self, selection: dict[str, Any]) -> None:
        self.cur_step = selection["cur_step"]
        self.best_valid_score = selection["best_valid_score"]
        self.best_valid_result = OrderedDict(selection["best_valid_result"]) or None
        self.best_epoch = selection["best_epoch"]
        if self.domain_selection is not None:
            self.domain_selection.restore(selection["domains"])
        self.train_loss_dict = dict(selection["train_losses"])
        self.valid_scores = dict(selection["valid_scores"])
        self.seconds = dict(selection["seconds"])
        self.seconds_before = float(selection["seconds_total"])
        self.notes = dict(selection.get("notes", {}))  # checkpoints of before they were kept have none
