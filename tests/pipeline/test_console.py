"""How a command line ends: one line, and an exit code that says why."""

import io

import pytest
import typer

from manifests.errors import ConfigError
from pipeline.console import out, run_command_line


def ending(
    error: BaseException, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> tuple[int, str]:
    """Exit code and standard error of a command that raises `error`."""
    app = typer.Typer()

    @app.command()
    def command() -> None:
        raise error

    monkeypatch.setattr("sys.argv", ["command"])
    with pytest.raises(SystemExit) as ended:
        run_command_line(app)
    assert isinstance(ended.value.code, int)
    return ended.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ConfigError("x=[1]: expected 2"), 2, "error: x=[1]: expected 2\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (typer.Exit(130), 130, ""),  # a run that stopped at Ctrl-C and has said so itself
        (typer.Exit(0), 0, ""),
    ],
)
def test_an_ending_is_one_line_and_an_exit_code(
    error: BaseException,
    code: int,
    line: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert ending(error, capsys, monkeypatch) == (code, line)


def test_what_the_locale_cannot_write_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding="ascii", write_through=True))
    run_command_line(lambda: out.print("pack of \u80ba", markup=False))
    assert written.getvalue() == b"pack of \\u80ba\n"
