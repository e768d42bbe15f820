"""What the terminal shows while a command works, and when it is interrupted."""

import inspect
import io
import subprocess
import sys
from contextlib import suppress
from functools import cache

import pytest
from rich.console import Console

from flows.cli import app as program
from flows.cli.progress import Display
from flows.run.progress import Progress


@pytest.mark.parametrize("quiet", [False, True])
def test_what_was_done_is_summed_up_when_it_is_interrupted(quiet: bool) -> None:
    shown = io.StringIO()
    with suppress(KeyboardInterrupt), Display(Console(file=shown), quiet=quiet) as display:
        display.show(Progress("sending", 3, 7, "4 open, 25 pages sent"))
        raise KeyboardInterrupt
    assert shown.getvalue() == "bulk-ocr: so far: sending: 3 of 7 documents finished, 4 open, 25 pages sent\n"


def test_a_quiet_command_shows_no_progress() -> None:
    shown = io.StringIO()
    with Display(Console(file=shown, force_terminal=True), quiet=True) as display:
        display.show(Progress("sending", 3, 7))
    assert shown.getvalue() == ""


@pytest.fixture(scope="module")
def bash_completion() -> str:
    """The script for bash. For each parameter of each command, cyclopts asks for the source of the same few classes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inspect, "getsource", cache(inspect.getsource))
        return program.app.generate_completion(prog_name="bulk-ocr", shell="bash")


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (("re",), ["retry", "redo"]),
        (("backfill", "pa"), ["pause"]),
        (("run", "--max-cost-per-"), ["--max-cost-per-day", "--max-cost-per-month"]),
        (("run", "--mode", ""), ["async", "sync", "auto"]),
    ],
)
def test_bash_completes_commands_options_and_choices(
    bash_completion: str, words: tuple[str, ...], completed: list[str]
) -> None:
    line = ("bulk-ocr", *words)
    script = f"""{bash_completion}
        COMP_WORDS=({" ".join(f'"{word}"' for word in line)}); COMP_CWORD={len(words)}
        COMP_LINE="${{COMP_WORDS[*]}}"; COMP_POINT=${{#COMP_LINE}}
        _bulk_ocr bulk-ocr "{line[-1]}" "{line[-2]}"
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    shell = subprocess.run(["bash"], input=script, capture_output=True, text=True, check=True)
    assert shell.stdout.split() == completed


def test_no_colours_where_none_are_wanted() -> None:
    command = "from flows.cli.output import Page; Page().say('words', 'bold red')"
    colours = {"FORCE_COLOR": "1", "TERM": "xterm-256color"}
    plain = [
        subprocess.run([sys.executable, "-c", command], env=colours | more, capture_output=True, text=True, check=True)
        for more in ({}, {"NO_COLOR": "1"})
    ]
    assert ["31m" in process.stdout for process in plain] == [True, False]
