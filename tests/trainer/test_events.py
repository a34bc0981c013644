"""The history of a run: whole lines, cut back where a resumed run begins again."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.errors import ConfigError
from trainer.events import EventLog, cut_back, last_event, read_events


def test_what_was_written_is_read_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventLog(path) as log:
        log.write("train", step=1, loss=0.1 + 0.2)
        log.write("epoch", valid_auroc={"Mass": None, "Hernia": 0.5})
    assert list(read_events(path)) == [
        {"event": "train", "step": 1, "loss": 0.1 + 0.2},
        {"event": "epoch", "valid_auroc": {"Mass": None, "Hernia": 0.5}},
    ]


def test_numbers_that_are_not_finite_become_null_so_that_every_line_is_json(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventLog(path) as log:
        log.write("train", loss=float("nan"), pace=[float("inf"), 1.0], auroc={"Mass": -float("inf")})
    (line,) = path.read_text().splitlines()
    assert json.loads(line, parse_constant=lambda name: name) == {
        "event": "train",
        "loss": None,
        "pace": [None, 1.0],
        "auroc": {"Mass": None},
    }


def test_a_full_disk_is_named_with_the_way_on() -> None:
    with EventLog(Path("/dev/full")) as log, pytest.raises(ConfigError) as error:
        log.write("start")
    assert "/dev/full: the history cannot be written ([Errno 28] No space left on device); make room" in str(
        error.value
    )


def test_a_second_log_appends(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for step in range(2):
        with EventLog(path) as log:
            log.write("train", step=step)
            assert log.sync() == path.stat().st_size
    assert [event["step"] for event in read_events(path)] == [0, 1]


def test_a_last_line_cut_short_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"event": "start"}\n{"event": "tra')
    assert list(read_events(path)) == [{"event": "start"}]


def test_a_full_disk_while_cutting_back_leaves_the_history(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"event": "start"}\n{"event": "train"}\n')
    with pytest.raises(ConfigError, match=r"events\.jsonl: the history cannot be written .*make room"):
        cut_back(path, Path("/dev/full"), num_bytes=19)
    assert [event["event"] for event in read_events(path)] == ["start", "train"]


@given(num_kept=st.integers(0, 6), num_lost=st.integers(0, 6), torn=st.booleans())
def test_cutting_back_keeps_every_line_in_one_of_the_two_files(
    tmp_path_factory: pytest.TempPathFactory, num_kept: int, num_lost: int, torn: bool
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    path, lost = folder / "events.jsonl", folder / "events.lost.jsonl"
    kept_lines = "".join(f'{{"event": "train", "step": {step}}}\n' for step in range(num_kept))
    lost_lines = "".join(f'{{"event": "train", "step": {step}}}\n' for step in range(num_kept, num_kept + num_lost))
    tail = lost_lines + ('{"event": "tr' if torn else "")
    lost.write_text('{"event": "earlier"}\n')
    path.write_text(kept_lines + tail)
    assert cut_back(path, lost, num_bytes=len(kept_lines)) == len(tail)
    assert path.read_text() == kept_lines
    assert lost.read_text() == '{"event": "earlier"}\n' + tail + ("\n" if torn else "")
    assert cut_back(path, lost, num_bytes=len(kept_lines)) == 0


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (None, b""),
        (b"", b""),
        (b'{"event": "start"}\n', b'{"event": "start"}\n'),
        (b'{"event": "start"}\n{"event": "tra', b'{"event": "start"}\n'),
    ],
)
def test_of_a_history_that_lost_a_part_the_whole_lines_stay(content: bytes | None, kept: bytes, tmp_path: Path) -> None:
    path, lost = tmp_path / "events.jsonl", tmp_path / "lost"
    if content is not None:
        path.write_bytes(content)
    torn = (content or b"")[len(kept) :]
    assert cut_back(path, lost, num_bytes=100) == len(torn)
    assert path.read_bytes() == kept
    assert lost.exists() == bool(torn)
    assert not torn or lost.read_bytes() == torn + b"\n"


def test_a_history_is_never_cut_within_a_line(tmp_path: Path) -> None:
    path, line = tmp_path / "events.jsonl", b'{"event": "start"}\n'
    path.write_bytes(line * 3)
    cut_back(path, tmp_path / "lost", num_bytes=len(line) + 5)
    assert path.read_bytes() == line
    assert (tmp_path / "lost").read_bytes() == line * 2


@pytest.mark.parametrize(
    ("content", "event"),
    [
        (None, None),
        (b"", None),
        (b'{"event": "end"}\n', "end"),
        (b'{"event": "start"}\n{"event": "end"}\n{"eve', "end"),
        (b'{"event": "start"}\ngarbage\n', None),
        (b"garbage\n" + b'{"event": "end"}\n', "end"),
        (b"\xff\xfe\n", None),
        (b"3\n", None),
    ],
)
def test_the_last_event_is_found_in_any_history(content: bytes | None, event: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "events.jsonl").write_bytes(content)
    last = last_event(tmp_path / "events.jsonl")
    assert (last and last["event"]) == event


def test_without_a_checkpoint_a_missing_history_begins_again(tmp_path: Path) -> None:
    assert cut_back(tmp_path / "events.jsonl", tmp_path / "lost", num_bytes=0) == 0
    assert (tmp_path / "events.jsonl").read_bytes() == b""


@pytest.mark.parametrize("line", [b"garbage", b"\xff\xfe", b"\0\0\0\0\0", b"3", b"{}"])
def test_a_line_that_is_no_event_is_named(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"event": "start"}\n' + line + b"\n")
    with pytest.raises(ConfigError, match=r"events\.jsonl: line 2 is not"):
        list(read_events(path))
