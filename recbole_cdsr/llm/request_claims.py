"""Who asks what, when several processes share a response cache: a run claims a request before it asks it.

The claim of a run that is gone is void: of a process on this machine that is seen at once, of others by their silence.
"""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Mapping, Sequence

from recbole_cdsr.processes import ProcessMark

CLAIM_SECONDS = 180.0  # a claim from a machine that cannot be looked at is void when it was not renewed for so long
RENEW_SECONDS = 30.0
SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    run TEXT PRIMARY KEY, host TEXT NOT NULL, pid INTEGER NOT NULL, started REAL NOT NULL, renewed REAL NOT NULL);
CREATE TABLE IF NOT EXISTS claims (key TEXT PRIMARY KEY, run TEXT NOT NULL);
"""


class RunClaims:
    """The claims of one run, among those of others; whoever calls holds a transaction that may write.

    Attributes
    ----------
    run : str
        This run's own name.
    enrolled : bool
        Whether others see this run.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self.run = uuid.uuid4().hex
        self.enrolled = False
        self._database = database
        self._renewed = 0.0

    def enrol(self) -> None:
        """Say that this run is alive."""
        self._renewed = time.time()
        self.enrolled = True
        own = ProcessMark.of_this_process()
        self._database.execute(
            "INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?)",
            (self.run, own.host, own.pid, own.started, self._renewed),
        )

    def renewal_is_due(self) -> bool:
        """Whether others should hear of this run again."""
        return self.enrolled and time.time() - self._renewed > RENEW_SECONDS

    def take(
        self, keys: Sequence[str], answered: set[str], claimed_by: Mapping[str, str]
    ) -> tuple[list[str], list[str]]:
        """Claim what is neither answered nor claimed by a living run.

        Parameters
        ----------
        keys
            Wanted.
        answered
            Those of them with an answer.
        claimed_by
            The run that claims each, where one does.

        Returns
        -------
        (mine, others)
            Keys claimed now, and keys that another living run claims.
        """
        self.enrol()
        alive = self._living(set(claimed_by.values()))
        others = [key for key in keys if key not in answered and claimed_by.get(key, self.run) in alive - {self.run}]
        taken = answered.union(others)
        mine = [key for key in keys if key not in taken]
        self._database.executemany("INSERT OR REPLACE INTO claims VALUES (?, ?)", [(key, self.run) for key in mine])
        return mine, others

    def release(self, keys: Sequence[str] | None) -> None:
        """Give claims back; None means all of this run, which then takes its leave."""
        if keys is None:
            self._remove(self.run)
            self.enrolled = False
        else:
            self._database.executemany(
                "DELETE FROM claims WHERE key = ? AND run = ?", [(key, self.run) for key in keys]
            )

    def _living(self, runs: set[str]) -> set[str]:
        """Those of the runs that are there still; the others' claims are removed."""
        alive = set()
        for run in runs:
            row = self._database.execute(
                "SELECT host, pid, started, renewed FROM runs WHERE run = ?", (run,)
            ).fetchone()
            if row is not None and _is_alive(*row):
                alive.add(run)
            elif run != self.run:
                self._remove(run)
        return alive

    def _remove(self, run: str) -> None:
        self._database.execute("DELETE FROM claims WHERE run = ?", (run,))
        self._database.execute("DELETE FROM runs WHERE run = ?", (run,))


def _is_alive(host: str, pid: int, started: float, renewed: float) -> bool:
    runs_here = ProcessMark(host, pid, started).runs_here()
    return time.time() - renewed < CLAIM_SECONDS if runs_here is None else runs_here
