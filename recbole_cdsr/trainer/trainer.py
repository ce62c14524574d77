"""The thin layer over whichever trainer RecBole would pick for a model.

RecBole trains, stops early and logs. This layer judges (protocol outside the model), selects (overall, by one domain,
or a checkpoint per domain) and keeps the run: `last` every epoch, `best` when the selection improves, resumable.
"""

from __future__ import annotations

import importlib
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from time import time
from typing import Any

import torch
from recbole.data.dataloader import AbstractDataLoader
from recbole.utils import ModelType, get_trainer, set_color
from tqdm import tqdm

from recbole_cdsr.data.dataset import ROW_ID, TARGET_DOMAIN
from recbole_cdsr.errors import CDSRError, ConfigError
from recbole_cdsr.evaluator.protocol import ProtocolEvaluator
from recbole_cdsr.evaluator.report import EvaluationReport
from recbole_cdsr.trainer.checkpoint import load_checkpoint, random_states, restore_random_states, save_checkpoint
from recbole_cdsr.trainer.run_directory import RunDirectory


class CDSRTrainerMixin:
    """Judging, selecting and keeping; put over a RecBole trainer by `trainer_class_for`.

    Attributes
    ----------
    run
        The run's directory.
    report
        `EvaluationReport` of the latest evaluation.
    best_epoch
        Epoch (0-based) of the selected checkpoint; a dict by domain with `select: per_domain`.
    seconds
        Wall-clock seconds spent in training and in evaluation, resumed parts included.
    """

    def __init__(self, config, model) -> None:
        super().__init__(config, model)
        self.run = RunDirectory(config)
        self.saved_model_file = str(self.run.best())
        self.per_domain = config["select"] == "per_domain"
        self.report: EvaluationReport | None = None
        self.best_epoch: int | dict[str, int] | None = {} if self.per_domain else None
        self.best_domain_scores: dict[str, float] = {}
        self.best_domain_results: dict[str, dict] = {}
        self.seconds = {"training": 0.0, "evaluation": 0.0}
        self._improved_domains: list[str] = []
        self._evaluators: dict[str, ProtocolEvaluator] = {}
        self._train_data: AbstractDataLoader | None = None
        self._epoch = -1

    # ------------------------------------------------------------------------------------------------ training
    def fit(
        self,
        train_data: AbstractDataLoader,
        valid_data: AbstractDataLoader | None = None,
        verbose: bool = True,
        saved: bool = True,
        show_progress: bool = False,
        callback_fn: Callable[[int, float], None] | None = None,
    ) -> tuple[float, dict]:
        """Train with RecBole's loop; see `recbole.trainer.Trainer.fit`.

        Raises
        ------
        CDSRError
            The loss became NaN, or a resumed checkpoint belongs to another run.
        """
        self._train_data = train_data
        self._check_valid_metric(valid_data)
        if self.run.resumed:
            self.resume_checkpoint(self.run.last)

        def after_epoch(epoch: int, score: float) -> None:
            if saved:
                self._save_last(epoch)
            if callback_fn is not None:
                callback_fn(epoch, score)

        return super().fit(train_data, valid_data, verbose, saved, show_progress, after_epoch)

    def _check_valid_metric(self, valid_data: AbstractDataLoader | None) -> None:
        if not valid_data or self.per_domain:
            return
        _, _, domain = self.valid_metric.partition("_")
        names = valid_data._dataset.domain_names
        if domain and domain not in names:
            raise ConfigError(
                f"valid_metric {self.config['valid_metric']}: '{domain}' is no domain of {self.config['dataset']}; "
                f"it has {', '.join(names)}."
            )

    def _train_epoch(self, train_data, epoch_idx, loss_func=None, show_progress=False):
        start = time()
        self._epoch = epoch_idx
        loss = super()._train_epoch(train_data, epoch_idx, loss_func=loss_func, show_progress=show_progress)
        self.seconds["training"] += time() - start
        return loss

    def _check_nan(self, loss: torch.Tensor) -> None:
        if not torch.isfinite(loss):
            raise CDSRError(
                f"The training loss of {self.config['model']} became {loss.item()} in epoch {self._epoch}; try a smaller "
                f"learning_rate (now {self.config['learning_rate']}) or set clip_grad_norm. "
                f"The epochs before are kept in {self.run.path}."
            )

    # ------------------------------------------------------------------------------------------------ judging
    def _evaluator(self, eval_data: AbstractDataLoader) -> ProtocolEvaluator:
        dataset = eval_data._dataset
        if dataset.phase not in self._evaluators:
            exclude = self.config["exclude_history"]
            if exclude == "recbole":  # RecBole masks the history for general models only
                exclude = self.config["MODEL_TYPE"] != ModelType.SEQUENTIAL
            self._evaluators[dataset.phase] = ProtocolEvaluator(self.config, dataset.evaluation_rows(), exclude)
        return self._evaluators[dataset.phase]

    def _score_into(
        self, evaluator: ProtocolEvaluator, eval_data: AbstractDataLoader, domain: int | None, show_progress: bool
    ) -> None:
        """Add the scores of all rows, or of the rows whose target lies in one domain."""
        if self.item_tensor is None:
            self.item_tensor = eval_data._dataset.get_item_feature().to(self.device)
        self.tot_item_num = eval_data._dataset.item_num
        self.model.eval()
        batches = tqdm(
            eval_data, total=len(eval_data), ncols=100, desc=set_color("Evaluate   ", "pink"), disable=not show_progress
        )
        for interaction, *_ in batches:
            if domain is not None:
                interaction = interaction[interaction[TARGET_DOMAIN] == domain]
            if len(interaction):
                _, scores, _, _ = self._full_sort_batch_eval((interaction, None, None, None))
                evaluator.add(scores, interaction[ROW_ID])

    @torch.no_grad()
    def evaluate(
        self,
        eval_data: AbstractDataLoader,
        load_best_model: bool = True,
        model_file: str | None = None,
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
            RecBole's flat form for the first entry of `eval_candidates`: `ndcg@10` overall, `ndcg@10_<domain>`.
        """
        if not eval_data or not len(eval_data._dataset):
            return None
        start = time()
        evaluator = self._evaluator(eval_data)
        evaluator.start()
        if load_best_model and self.per_domain and model_file is None:
            for k, name in enumerate(eval_data._dataset.domain_names):
                self._load_model(self.run.best(name) if self.run.best(name).is_file() else self.run.best())
                self._score_into(evaluator, eval_data, k, show_progress)
        else:
            if load_best_model:
                self._load_model(model_file or self.saved_model_file)
            self._score_into(evaluator, eval_data, None, show_progress)
        self.report = evaluator.finish()
        self.seconds["evaluation"] += time() - start
        result = OrderedDict(self.report.flat())
        self.wandblogger.log_eval_metrics(result, head="eval")
        return result

    def _load_model(self, path) -> None:
        state = load_checkpoint(path, self.device)
        self.model.load_state_dict(state["state_dict"])
        self.model.load_other_parameter(state["other_parameter"])
        self.logger.info(f"Loading model structure and parameters from {path}")

    # ------------------------------------------------------------------------------------------------ selecting
    def _valid_epoch(self, valid_data, show_progress=False) -> tuple[float, dict]:
        result = self.evaluate(valid_data, load_best_model=False, show_progress=show_progress)
        if not self.per_domain:
            if self.valid_metric not in result:
                raise ConfigError(
                    f"valid_metric {self.config['valid_metric']} has no validation row to be computed on; "
                    "choose the overall metric or another domain."
                )
            return result[self.valid_metric], result
        return self._valid_score_per_domain(result), result

    def _valid_score_per_domain(self, result: dict) -> float:
        """Mean over domains of the best score so far if any domain improved, else of the present scores.

        RecBole stops when this number has not reached its best for `stopping_step` validations, which then means
        that no domain has improved.
        """
        bigger = self.valid_metric_bigger
        scores = {
            key.removeprefix(f"{self.valid_metric}_"): value
            for key, value in result.items()
            if key.startswith(f"{self.valid_metric}_")
        }
        self._improved_domains = [
            name
            for name, score in scores.items()
            if name not in self.best_domain_scores
            or (score >= self.best_domain_scores[name] if bigger else score <= self.best_domain_scores[name])
        ]
        for name in self._improved_domains:
            self.best_domain_scores[name] = scores[name]
            self.best_epoch[name] = self._epoch
            suffix = f"_{name}"
            self.best_domain_results[name] = {
                key.removesuffix(suffix): value for key, value in result.items() if key.endswith(suffix)
            }
        judged = self.best_domain_scores if self._improved_domains else scores
        return sum(judged.values()) / len(judged)

    # ------------------------------------------------------------------------------------------------ keeping
    def _model_state(self, epoch: int) -> dict[str, Any]:
        return {
            "model": self.config["model"],
            "dataset": self.config["dataset"],
            "config": self.config.plain(),
            "fingerprint": self.config.fingerprint(),
            "epoch": epoch,
            "state_dict": dict(self.model.state_dict()),
            "other_parameter": self.model.other_parameter(),
        }

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **kwargs) -> None:
        """Keep the selected epoch; called by RecBole when the selection improved, or every epoch without validation."""
        if epoch < 0 and self.run.best().is_file():
            return  # a resumed run that has nothing left to train keeps what it selected
        if self.per_domain and self._improved_domains:
            for name in self._improved_domains:
                save_checkpoint(self.run.best(name), self._model_state(epoch))
        else:
            save_checkpoint(self.run.best(), self._model_state(epoch))
            if not self.per_domain:
                self.best_epoch = epoch
        if self.best_valid_result is None and self.eval_step <= 0:
            self._save_last(epoch)
        if verbose:
            self.logger.info(set_color("Saving current", "blue") + f": {self.run.path}")

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {name: value for name, value in vars(self).items() if isinstance(value, torch.optim.Optimizer)}

    def _save_last(self, epoch: int) -> None:
        state = self._model_state(epoch)
        state["optimizers"] = {name: optimizer.state_dict() for name, optimizer in self._optimizers().items()}
        state["random"] = random_states()
        state["loader"] = self._train_data.generator.get_state()
        state["selection"] = {
            "cur_step": self.cur_step,
            "best_valid_score": float(self.best_valid_score),
            "best_valid_result": dict(self.best_valid_result or {}),
            "best_epoch": self.best_epoch,
            "best_domain_scores": self.best_domain_scores,
            "best_domain_results": self.best_domain_results,
            "train_losses": dict(self.train_loss_dict),
            "seconds": self.seconds,
        }
        save_checkpoint(self.run.last, state)

    def resume_checkpoint(self, resume_file) -> None:
        """Go on where a run stopped, as if it had not.

        Parameters
        ----------
        resume_file
            A `last.pth`.

        Raises
        ------
        CheckpointError
            It cannot be read or belongs to a run configured otherwise.
        """
        state = load_checkpoint(resume_file, self.device)
        self.run.check_same_run(state, self.config)
        self.model.load_state_dict(state["state_dict"])
        self.model.load_other_parameter(state["other_parameter"])
        for name, optimizer in self._optimizers().items():
            optimizer.load_state_dict(state["optimizers"][name])
        selection = state["selection"]
        self.cur_step = selection["cur_step"]
        self.best_valid_score = selection["best_valid_score"]
        self.best_valid_result = OrderedDict(selection["best_valid_result"]) or None
        self.best_epoch = selection["best_epoch"]
        self.best_domain_scores = selection["best_domain_scores"]
        self.best_domain_results = selection["best_domain_results"]
        self.train_loss_dict = selection["train_losses"]
        self.seconds = selection["seconds"]
        self._epoch = state["epoch"]
        stopped = self.cur_step > self.stopping_step
        self.start_epoch = self.epochs if stopped else state["epoch"] + 1
        restore_random_states(state["random"])
        if self._train_data is not None:
            self._train_data.generator.set_state(state["loader"].cpu())
        self.logger.info(f"Checkpoint loaded from {resume_file}. Resume training from epoch {self.start_epoch}")


@cache
def trainer_class_for(model_type: ModelType, model_name: str) -> type:
    """The trainer of a model: this layer over the one RecBole would pick.

    Parameters
    ----------
    model_type, model_name
        As RecBole's `get_trainer` takes them.

    Raises
    ------
    ConfigError
        RecBole's trainer for this kind of model does not rank items (gradient-boosted trees).
    """
    base = get_trainer(model_type, model_name)
    if issubclass(base, CDSRTrainerMixin):
        return base
    plain = importlib.import_module("recbole.trainer").Trainer
    if not issubclass(base, plain):
        raise ConfigError(
            f"{model_name} is trained by {base.__name__}, which does not rank items; choose another model."
        )
    return type(f"CrossDomain{base.__name__}", (CDSRTrainerMixin, base), {})
