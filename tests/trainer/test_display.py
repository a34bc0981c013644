"""What a person sees: loss, AUROC, pace, and how long it still takes."""

import pytest

from trainer.display import Display, duration
from trainer.stopwatch import Pace

PACE = Pace(elapsed_s=40.0, images_per_s=1234.4, data_wait_fraction=0.014)


def test_an_epochs_line_says_how_long_the_run_still_takes(capsys: pytest.CaptureFixture[str]) -> None:
    now_s = 100.0
    display = Display(num_epochs=3, steps_per_epoch=10, clock_s=lambda: now_s)
    with display:
        display.start_epoch(1, 4)  # of a run that was resumed in its second epoch
        for _ in range(4):
            display.advance()
        now_s = 120.0
        display.end_epoch(1, loss=0.25, valid_mean_auroc=0.8125, is_best=True, pace=PACE)
        display.start_epoch(2, 10)
        for _ in range(10):
            display.advance()
        display.end_epoch(2, loss=0.2, valid_mean_auroc=None, is_best=False, pace=PACE)
    first, last = " ".join(capsys.readouterr().err.split()).split(" epoch 3/3: ")
    assert first == (
        "epoch 2/3: loss 0.2500, validation mean AUROC 0.8125 (best), trained in 40.0 s, 1,234 images/s, "
        "data wait 1%, 50 s left"
    )
    assert last == "loss 0.2000, validation mean AUROC n/a, trained in 40.0 s, 1,234 images/s, data wait 1%"


def test_on_a_terminal_the_bar_has_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    from rich.console import Console

    screen = io.StringIO()
    monkeypatch.setattr("trainer.display.err", Console(file=screen, force_terminal=True, width=160))
    now_s = 0.0
    with Display(num_epochs=2, steps_per_epoch=2, clock_s=lambda: now_s) as display:
        for epoch in range(2):
            display.start_epoch(epoch, 2)
            display.advance()
            now_s += 30.0
            display.show(loss=0.5, pace=PACE)
            if epoch == 0:
                display.advance()
                display.end_epoch(0, loss=0.5, valid_mean_auroc=0.75, is_best=False, pace=PACE)
    assert "loss 0.5000, AUROC 0.7500, 1,234 images/s, data wait 1%, 20 s left" in screen.getvalue()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.4, "0 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599.4, "59 min 59 s"),
        (18420, "5 h 07 min"),
        (86399, "1 d 00 h"),
        (183600, "2 d 03 h"),
    ],
)
def test_durations_read_as_people_say_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said
