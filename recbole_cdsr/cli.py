"""The command line: `recbole-cdsr COMMAND`; `recbole-cdsr --help` lists the commands.

A user's mistake ends in one line and exit code 2, an interruption in one line and exit code 130.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from recbole_cdsr import __version__
from recbole_cdsr.errors import CDSRError, ConfigError
from recbole_cdsr.memory import is_out_of_memory
from recbole_cdsr.run_options import Once

# Why the system does not even say whether a path is there, wherever a command looks.
_OUT_OF_REACH = frozenset({errno.EACCES, errno.ENAMETOOLONG})
USER_MISTAKE = 2
INTERRUPTED = 130
# What a command leaves that is interrupted or has not the memory; the others leave nothing but what was there before.
_KEPT = {
    "run": "; what was finished is kept, --resume goes on with a run",
    "tune": "; what was finished is kept, the same command goes on",
    "benchmark": "; finished cells and the last epochs of running ones are kept, the same command goes on",
    "recommend": "; what was written for --output is kept, the same command goes on",
    "features": "; what was finished or answered is kept, the same command goes on",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a sub-command.

    Parameters
    ----------
    arguments
        Without the program's name; None takes them from `sys.argv`.

    Returns
    -------
    int
        Exit code: 0, 1 where cells of a benchmark have failed, 2 for a mistake the user can mend, 130 when interrupted.
    """
    command = ""
    try:
        # Here and in `_parser`, for pandas and others take seconds to load: Ctrl-C ends that in one line too.
        from recbole_cdsr.llm.feature_command import with_action
        from recbole_cdsr.llm.spending import spent_together

        given = sys.argv[1:] if arguments is None else arguments
        options, settings = _parser().parse_known_args(with_action(given))
        if settings and not options.takes_settings:
            raise ConfigError(f"{options.command} does not know {' '.join(settings)}; see `{options.command} --help`.")
        options.settings, command = settings, options.command
        with spent_together():
            code = options.run(options)
        sys.stdout.flush()
        return code
    except CDSRError as error:
        print(f"recbole-cdsr: {' '.join(str(error).split())}", file=sys.stderr)
        return USER_MISTAKE
    except UnicodeEncodeError as error:
        if error.encoding.lower().replace("-", "") == "utf8":
            raise
        print(
            f"recbole-cdsr: the output is {error.encoding}, which has no {error.object[error.start]!a}; set "
            "PYTHONIOENCODING=utf-8, or have it written to a file.",
            file=sys.stderr,
        )
        return USER_MISTAKE
    except BrokenPipeError:  # whoever read the output has read enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to fail at the last flush
        return 0
    except OSError as error:
        if error.errno not in _OUT_OF_REACH or error.filename is None:
            raise
        print(
            f"recbole-cdsr: the path {str(error.filename)[:200]!r} is out of reach ({error.strerror}); name another.",
            file=sys.stderr,
        )
        return USER_MISTAKE
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        said = " ".join(str(error).split())[:200] or type(error).__name__
        print(
            f"recbole-cdsr: out of memory ({said}){_KEPT.get(command, '')}; make what does not fit smaller: "
            "train_batch_size, eval_batch_size, llm_batch_size, MAX_ITEM_LIST_LENGTH or the model.",
            file=sys.stderr,
        )
        return USER_MISTAKE
    except KeyboardInterrupt:
        # The interrupt may have cut a line of the log, and a terminal has written ^C.
        print(f"\nrecbole-cdsr: interrupted{_KEPT.get(command, '')}.", file=sys.stderr)
        return INTERRUPTED


class _OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see `{self.prog} --help`.")


def _parser() -> argparse.ArgumentParser:
    from recbole_cdsr import stats
    from recbole_cdsr.benchmark import command as benchmark_command
    from recbole_cdsr.convert import command as convert_command
    from recbole_cdsr.evaluate import command as evaluate_command
    from recbole_cdsr.explain import command as explain_command
    from recbole_cdsr.llm import feature_command
    from recbole_cdsr.recommend import command as recommend_command
    from recbole_cdsr.run_options import add_run_options
    from recbole_cdsr.tune import command as tune_command

    parser = _OneLineParser(
        prog="recbole-cdsr",
        description="Cross-domain sequential recommendation with LLMs, on RecBole.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.set_defaults(takes_settings=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="train a model and judge it",
        description="Train a model of ours or of RecBole and judge it. Any setting may follow as --key=value.",
        allow_abbrev=False,
    )
    add_run_options(run, "YAML files")
    run.add_argument("--nproc", type=int, default=1, help="number of processes; 1 for now")
    run.add_argument(
        "--resume",
        nargs="?",
        const="True",
        action=Once,
        metavar="BOOL",
        help="go on with the newest run of this configuration",
    )
    run.set_defaults(run=_run, takes_settings=True)
    tune_command.add_parser(commands)
    benchmark_command.add_parser(commands)
    feature_command.add_parser(commands)
    convert_command.add_parser(commands)
    stats.add_parser(commands)
    evaluate_command.add_parser(commands)
    recommend_command.add_parser(commands)
    explain_command.add_parser(commands)
    doctor = commands.add_parser("doctor", help="print versions, what was mended, the encoder found and the device")
    doctor.set_defaults(run=_doctor)
    return parser


# Each command imports what it needs itself: PyTorch and RecBole take seconds to load.


def _run(options: argparse.Namespace) -> int:
    from recbole_cdsr.config import split_config_files
    from recbole_cdsr.quick_start import run_recbole_cdsr

    if options.nproc != 1:
        raise ConfigError(f"--nproc={options.nproc}: runs over several processes are not built yet; leave nproc at 1.")
    command_line = list(options.settings)
    if options.resume is not None:
        command_line.append(f"--resume={options.resume}")
    run_recbole_cdsr(
        options.model, options.dataset, split_config_files(options.config_files), command_line=command_line
    )
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from recbole_cdsr.doctor import report

    print(report())
    return 0


if __name__ == "__main__":
    sys.exit(main())
