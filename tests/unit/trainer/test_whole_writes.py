"""Interrupts and full disks amid what a TensorBoard writer does."""

from __future__ import annotations

import signal

import pytest

from recbole_cdsr.trainer.whole_writes import WholeWrites


class Writer:
    """Keeps what is written; amid each write its process gets a signal."""

    log_dir = "log"

    def __init__(self, number: int | None) -> None:
        self.number, self.written, self.closed = number, [], False

    def add_scalar(self, tag: str, value: float, step: int) -> str:
        self.written.append(tag)
        if self.number is not None:
            signal.raise_signal(self.number)
        self.written.append((value, step))
        return "written"

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def heard():
    """Ctrl-C as in a terminal, whatever the tests were started from."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_waits_for_the_write(heard):
    writer = Writer(signal.SIGINT)
    whole = WholeWrites(writer)
    with pytest.raises(KeyboardInterrupt):
        whole.add_scalar("Loss/Train", 0.5, 3)
    assert writer.written == ["Loss/Train", (0.5, 3)]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    whole.close()
    assert writer.closed


def test_sigterm_waits_too_and_ends_the_process_with_its_code(heard):
    writer = Writer(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        WholeWrites(writer).add_scalar("Loss/Train", 0.5, 3)
    assert ended.value.code == 143
    assert len(writer.written) == 2


def test_what_is_not_interrupted_is_handed_on(heard):
    writer = WholeWrites(Writer(None))
    assert writer.add_scalar("a", 1.0, step=2) == "written"
    assert writer.log_dir == "log"
    with pytest.raises(AttributeError):
        _ = writer.nothing


def test_a_process_that_is_deaf_to_ctrl_c_stays_so():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        writer = Writer(signal.SIGINT)
        assert WholeWrites(writer).add_scalar("a", 1.0, 2) == "written"
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_full_disk_costs_the_curves_and_not_the_run(heard, caplog):
    class Full(Writer):
        def add_scalar(self, tag: str, value: float, step: int) -> str:
            raise OSError(28, "No space left on device")

        close = add_scalar

    whole = WholeWrites(Full(None))
    for step in range(3):
        assert whole.add_scalar("Loss/Train", 0.5, step) is None
    whole.close("", 0.0, 0)
    assert [record.message for record in caplog.records] == [
        "TensorBoard's curves in log cannot be written (No space left on device); the run goes on without them."
    ]
