"""What a run says of its time before anyone waits hours."""

import io
from datetime import datetime
from types import SimpleNamespace

from rich.console import Console

from binseg.training import reporting
from binseg.training.reporting import Reporter, at_time


def lines(tmp_path, monkeypatch, *, steps, epochs, accumulate=1, hours=None):
    """What is said over an epoch whose first three steps take 100 s each, all others 2 s."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(reporting.time, "monotonic", lambda: clock.now)
    said = io.StringIO()
    reporter = Reporter(tmp_path, 0, None, hours, Console(file=said, soft_wrap=True))
    trainer = SimpleNamespace(
        global_step=0,
        is_global_zero=True,
        estimated_stepping_batches=steps * epochs,
        max_epochs=epochs,
        current_epoch=0,
    )
    reporter.on_train_start(trainer, None)
    reporter.on_train_epoch_start(trainer, None)
    for batch in range(steps * accumulate):
        clock.now += (100 if batch < 3 else 2) / accumulate
        trainer.global_step = (batch + 1) // accumulate
        reporter.on_train_batch_end(trainer, None, None, {"image": [0]}, batch)
    return said.getvalue().splitlines()


def test_the_first_steps_say_how_long_it_takes(tmp_path, monkeypatch):
    for accumulate in (1, 4):
        (line,) = lines(tmp_path, monkeypatch, steps=300, epochs=90, accumulate=accumulate)
        # 300 · 2 s, and (27,000 − 20) · 2 s: the slow first steps do not count
        assert "an epoch takes about 10 min, the training 14 h 59 min, until " in line
        assert "the first 20 steps" in line
    assert "an epoch takes" in (tmp_path / reporting.LOG).read_text()


def test_a_limit_that_comes_before_the_end_is_said(tmp_path, monkeypatch):
    # 90 epochs of 10 min, of which 6 fit
    _, line = lines(tmp_path, monkeypatch, steps=300, epochs=90, hours=1)
    assert "trainer.hours (1) ends it before that; with trainer.epochs 6 or fewer" in line
    assert len(lines(tmp_path, monkeypatch, steps=300, epochs=90, hours=15)) == 1


def test_a_short_training_says_nothing(tmp_path, monkeypatch):
    assert lines(tmp_path, monkeypatch, steps=19, epochs=1) == []
    assert lines(tmp_path, monkeypatch, steps=20, epochs=1) == []


def test_the_time_of_day():
    now = datetime(2026, 3, 2, 22, 30)  # a Monday
    assert at_time(now, 60 * 45) == "23:15"
    assert at_time(now, 3600 * 9) == "Tue 07:30"
    assert at_time(now, 3600 * 24 * 7) == "2026-03-09 22:30"
