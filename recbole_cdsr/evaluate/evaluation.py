"""A trained run judged again: nothing is trained, and nothing that was trained changes."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from time import time
from typing import Any

import torch

from recbole_cdsr import results
from recbole_cdsr.config import CDSRConfig
from recbole_cdsr.config_evaluation import check_metrics, check_topk, metrics_at
from recbole_cdsr.config_values import Setting, parse_command_line
from recbole_cdsr.data.loaders import JudgedRowsLoader
from recbole_cdsr.errors import CheckpointError, ConfigError
from recbole_cdsr.evaluate.command import CHANGEABLE, PROTOCOL
from recbole_cdsr.evaluator.rank_table import rank_table, save_rank_table
from recbole_cdsr.evaluator.report import EvaluationReport
from recbole_cdsr.trained_run import SavedRun, TrainedRun
from recbole_cdsr.trained_run_options import check_changes
from recbole_cdsr.trainer.checkpoint import load_checkpoint
from recbole_cdsr.trainer.judging import FullScores, protocol_evaluator, score_rows


def evaluate_run(place: Path, settings: Sequence[str] = ()) -> dict[str, Any]:
    """Judge the selected checkpoint of a run on its validation and test rows, print the table, write the result.

    With `select: per_domain` each row is judged by the checkpoint of its domain, as in the run.

    Parameters
    ----------
    place
        A checkpoint, or the directory of a run.
    settings
        Arguments `--key=value`: those of the protocol (`eval_candidates`, `topk`, …), where things lie, `result_file`.

    Returns
    -------
    dict
        The result, in the form of a run's; see `docs/results_format.md`. Its key `evaluated` says what was judged.

    Raises
    ------
    CDSRError
        A mistake the user can mend.
    """
    started = time()
    check_changes("evaluate", settings, CHANGEABLE)
    saved = SavedRun.open(place)
    config = _judging_config(saved, settings)
    result_file = _checked_result_file(config, saved)
    run = TrainedRun(saved, config)
    models_started = time()
    for name in run.data.domain_names:
        run.model_of(name)
    seconds = {"features": time() - models_started, "training": 0.0}
    judging_started = time()
    valid, test = judge(run, run.valid), judge(run, run.test)
    seconds["evaluation"] = time() - judging_started
    print(f"{config['model']} as trained in {results.run_directory(saved.folder)}, nothing was trained")
    print(test.table())
    if run.data.card is not None and run.data.card.synthetic:
        print(f"'{config['dataset']}' is SYNTHETIC data: this table says nothing about real users.", file=sys.stderr)
    result = _result(run, valid, test) | {"seconds": seconds | {"total": time() - started}}
    if result_file is not None:
        ranks = rank_table(test, run.test._dataset.evaluation_rows(), run.data)
        save_rank_table(ranks_beside(result_file), ranks)
        results.write(result, result_file)
    return result


def _checked_result_file(config: CDSRConfig, saved: SavedRun) -> Path | None:
    """Where the result is to be written, after a look at whether it can be."""
    name = config["result_file"]
    if name is None:
        return None
    if not name.strip():
        raise ConfigError("result_file names nothing; name a file, or leave it out.")
    file = Path(name)
    saved.check_not_its_own("result_file", file)
    results.check_writable(name)  # before `ranks_beside`: a folder such as `.` may have no name of its own
    results.check_writable(str(ranks_beside(file)))
    return file


def ranks_beside(result_file: Path) -> Path:
    """Where the ranks of the test rows go: `uni999.json` -> `uni999_test_ranks.tsv`."""
    return result_file.with_name(f"{result_file.stem}_test_ranks.tsv")


@torch.no_grad()
def judge(run: TrainedRun, rows: JudgedRowsLoader) -> EvaluationReport:
    """Rank the targets of a split as the trainer does.

    Parameters
    ----------
    run
        Its settings are those of the protocol.
    rows
        `run.valid` or `run.test`.
    """
    config, dataset = run.config, rows._dataset
    evaluator = protocol_evaluator(config, dataset.evaluation_rows())
    evaluator.start()
    names = dataset.domain_names
    if len({run.checkpoint_of(name) for name in names}) == 1:
        passes: list[tuple[str, int | None]] = [(names[0], None)]
    else:
        passes = [(name, domain) for domain, name in enumerate(names)]
    for name, domain in passes if len(dataset) else []:
        scores = FullScores(run.model_of(name), dataset, config["eval_batch_size"], config["device"])
        score_rows(scores, evaluator, rows, domain, config["show_progress"])
    return evaluator.finish()


def _judging_config(saved: SavedRun, settings: Sequence[str]) -> CDSRConfig:
    """The run's settings under the protocol that is asked for."""
    given = {key: Setting(saved.settings[key], "the run") for key in ("metrics", "topk")}
    for key, text in parse_command_line(settings)[0].items():
        given[key] = Setting.from_text(text, "the command line")
    choices = metrics_at(check_metrics(given["metrics"]), check_topk(given["topk"]))
    if saved.settings["valid_metric"].partition("_")[0] in choices:
        return saved.config(settings)
    return saved.config(settings, valid_metric=choices[0])  # nothing is selected here, so that any of them serves


def _result(run: TrainedRun, valid: EvaluationReport, test: EvaluationReport) -> dict[str, Any]:
    """The result in the form of a run's, but for its times."""
    checkpoints = {name: run.checkpoint_of(name) for name in run.data.domain_names}
    files = {name: results.run_directory(path) for name, path in checkpoints.items()}
    epochs = {name: _epoch(path) for name, path in checkpoints.items()}
    one = len(set(files.values())) == 1
    own = _own_result(run.saved.folder)
    result = results.header(run.config, run.data)
    before, now = run.saved.settings, result["config"]
    now["valid_metric"] = before["valid_metric"]  # what selected the checkpoint
    changed = {key: [before.get(key), now[key]] for key in sorted(PROTOCOL & now.keys()) if before.get(key) != now[key]}
    return result | {
        "evaluated": {
            "checkpoint": next(iter(files.values())) if one else files,
            "trained": False,
            "changed": changed,
        },
        "pseudo_items": own.get("pseudo_items"),  # which judging does not read
        "injection": getattr(run.model_of(run.data.domain_names[0]), "llm_injection", None),
        "best_valid_score": None,
        "best_valid": valid.flat(),
        "best_epoch": next(iter(epochs.values())) if one else epochs,
        "test": test.as_result_dict(),
        "notes": {},
        "epochs": 0,
        "budget": own.get("budget"),  # whether a cap on epochs ended its training
        "train_losses": [],
        "valid_scores": [],
        "run_dir": results.run_directory(run.saved.folder),
    }


def _epoch(checkpoint: Path) -> int | None:
    """The epoch that a checkpoint keeps, from 0; None for a model that was not trained."""
    epoch = load_checkpoint(checkpoint).get("epoch")
    if not isinstance(epoch, int):
        raise CheckpointError(f"{checkpoint} does not say which epoch it keeps; give a checkpoint of a run.")
    return epoch if epoch >= 0 else None


def _own_result(folder: Path) -> dict[str, Any]:
    """The run's own result; empty where there is none."""
    try:
        content = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
