"""`recbole-cdsr tune`: many runs of one model with settings drawn from a search space."""

from __future__ import annotations

import argparse
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from recbole_cdsr.errors import CDSRError, ConfigError
from recbole_cdsr.run_options import add_run_options

if TYPE_CHECKING:
    from optuna import Study

    from recbole_cdsr.tune.job import Job
    from recbole_cdsr.tune.space import Space
    from recbole_cdsr.tune.storage import Storage

DEFAULT_TRIALS = 20


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add `tune` to the command line; the parsed arguments go to `run`."""
    parser = subparsers.add_parser(
        "tune",
        help="search for a model's best settings",
        description="Train a model many times with settings drawn from a search space, and find those with the best "
        "validation score. What is fixed follows as --key=value. The same command goes on with a study, and several "
        "at once share it.",
        allow_abbrev=False,
    )
    add_run_options(parser, "YAML files of fixed settings")
    parser.add_argument(
        "--space",
        required=True,
        metavar="FILE",
        help="search space: YAML, RecBole's lines, or the name of a bundled one",
    )
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder of trials and findings")
    parser.add_argument(
        "--trials",
        type=_at_least(1),
        metavar="N",
        help=f"trials of the study, over all processes ({DEFAULT_TRIALS}; all of a grid)",
    )
    parser.add_argument("--storage", metavar="URL", help="the study's database, a file or a server (DIR/study.db)")
    parser.add_argument("--study", metavar="NAME", help="the study's name in it (<model>-<dataset>)")
    parser.add_argument(
        "--sampler",
        choices=["tpe", "random", "grid", "bayes", "exhaustive"],
        default="tpe",
        help="how settings are drawn (tpe); bayes and exhaustive are RecBole's names of tpe and grid",
    )
    parser.add_argument("--pruner", choices=["median", "none"], default="median", help="ends hopeless trials (median)")
    parser.add_argument(
        "--pruner_trials", type=_at_least(0), default=5, metavar="N", help="trials before any is pruned (5)"
    )
    parser.add_argument(
        "--pruner_epochs", type=_at_least(0), default=5, metavar="N", help="epochs before a trial is pruned (5)"
    )
    parser.add_argument(
        "--grace_period",
        type=_at_least(1),
        default=120,
        metavar="SECONDS",
        help="silence after which a process of another machine is taken for dead (120)",
    )
    parser.set_defaults(run=run, takes_settings=True)
    return parser


def _at_least(least: int):
    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is less than {least}")
        return value

    return number


def run(args: argparse.Namespace) -> int:
    """Run or continue a study, print what it found and return the exit code 0."""
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"tune needs the package {error.name}; install it: pip install 'recbole-cdsr[tune]'."
        ) from None
    from optuna.exceptions import ExperimentalWarning, OptunaError

    from recbole_cdsr.config import split_config_files
    from recbole_cdsr.tune.storage import Storage, reason_of

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    args.sampler = {"bayes": "tpe", "exhaustive": "grid"}.get(args.sampler, args.sampler)
    args.config_files = split_config_files(args.config_files)
    storage = Storage(args.storage or str(args.output / "study.db"), args.grace_period)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        try:
            with _ended_as_by_ctrl_c():
                _search(args, storage)
        except OptunaError as error:
            raise ConfigError(
                f"The storage {storage.shown} does not answer ({reason_of(error)}); the trial in hand is kept as far "
                "as it came, and the same command goes on."
            ) from error
    return 0


@contextmanager
def _ended_as_by_ctrl_c() -> Iterator[None]:
    """Take SIGTERM for Ctrl-C: a scheduler ends a process with it, and the trial in hand is not to blame."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # where no signal arrives
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def _search(args: argparse.Namespace, storage: Storage) -> None:
    from recbole_cdsr.config_names import props_file
    from recbole_cdsr.tune import report
    from recbole_cdsr.tune.job import Job
    from recbole_cdsr.tune.sampling import grid_size, make_pruner, make_sampler
    from recbole_cdsr.tune.space import read_space
    from recbole_cdsr.tune.storage import study_settings
    from recbole_cdsr.tune.worker import Worker

    bundled = None if Path(args.space).is_file() else props_file("tune", args.space)
    space = read_space(bundled or args.space)
    job = Job(args.model, args.dataset, args.config_files, args.settings)
    space = job.check(space)
    n_trials = args.trials or DEFAULT_TRIALS
    if args.sampler == "grid":
        size = grid_size(space)
        n_trials = min(args.trials or size, size)
        print(f"The grid has {size} points; {n_trials} trials.")
    study = storage.open(
        args.study or f"{job.fixed['model']}-{job.fixed['dataset']}",
        study_settings(space, job.fixed, args.sampler),
        job.fixed.internal_config_dict,
        job.fixed["valid_metric_bigger"],
        make_sampler(args.sampler, space, job.fixed["seed"]),
        make_pruner(args.pruner, args.pruner_trials, args.pruner_epochs),
    )
    _prepare(args.output, study)
    for remark in [*space.remarks, *job.fixed.warnings]:
        print(f"Note: {remark}")
    print(f"Study {study.study_name} in {storage.shown}, trials below {args.output}", flush=True)

    def write_findings() -> None:
        try:
            report.write_files(study, space, job, args.output)
        except OSError as error:
            raise ConfigError(
                f"What the study found cannot be written below --output {args.output} ({error.strerror}); it is all in "
                f"{storage.shown}, and the same command goes on."
            ) from error

    Worker(study, space, job, n_trials, args.output, args.grace_period, write_findings).work()
    write_findings()
    _tell(study, space, job, args.output)


def _prepare(output: Path, study: Study) -> None:
    """Make the folder of trials; refuse one that holds those of another study."""
    folder = output / "trials"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = {int(path.name) for path in folder.iterdir() if path.name.isdecimal()}
    except OSError as error:
        raise ConfigError(f"--output {output} cannot be written ({error.strerror}); name another folder.") from error
    foreign = sorted(found - {trial.number for trial in study.get_trials(deepcopy=False)})
    if foreign:
        raise ConfigError(
            f"{folder} holds trial {foreign[0]}, of which the study {study.study_name!r} knows nothing; name another "
            "--output, or the --storage and --study it belongs to."
        )


def _tell(study: Study, space: Space, job: Job, output: Path) -> None:
    from recbole_cdsr.tune import report

    print(f"\n{report.counts(study)}; all of them in {output / report.TRIALS}")
    if not report.ranked(study):
        raise CDSRError(
            f"No trial of the study {study.study_name!r} came to an end; {output / report.TRIALS} says why."
        )
    print(f"\n{report.best_table(study, space, job.fixed['valid_metric'])}")
    for sentence in report.provenance(report.ranked(study)[0]):
        print(f"\n{sentence}")
    shares = report.importance(study)
    if shares:
        n_trials = len(report.ranked(study))
        print(f"\nImportance for being among the best of these {n_trials} trials (PED-ANOVA):")
        print("\n".join(f"  {name}  {share:.0%}" for name, share in shares.items()))
    print(
        f"\nThe best settings: recbole-cdsr run --config_files={output / report.BEST}\n"
        "These are scores of validation rows, of which the best is the luckiest too; report test results of runs with "
        "several seeds."
    )
