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


def test_a_narrow_terminal_has_room_for_the_bar_and_the_counts() -> None:
    """Below them, the details take as many lines as they need."""
    shown = io.StringIO()
    details = "7 failed, 30 open, 667 pages sent of 1,000, $1.00, 215 pages a minute, 3 min left, ends at 12:31 UTC"
    with Display(Console(file=shown, force_terminal=True, width=80, color_system=None)) as display:
        display.show(Progress("submitting and collecting", 129, 142, details))
    bar = shown.getvalue().index("━━━━━━━━━━", shown.getvalue().index("submitting and collecting"))
    assert shown.getvalue().index("129/142 documents") > bar
    assert " ".join(shown.getvalue().split()).find(details) > bar


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["watch", "letters"], "the runs of the backfill are not affected"),
        (["status", "s3://b/out"], "nothing was sent: rerun the command at any time"),
        (["backfill", "list"], "nothing was sent: rerun the command at any time"),
        (["--quiet", "run"], "what was sent is on record: rerun the command to resume"),
        (["backfill", "start", "letters"], "what was sent is on record: rerun the command to resume"),
        ([], "nothing was sent: rerun the command at any time"),
    ],
)
def test_what_to_do_after_an_interruption_depends_on_the_command(arguments: list[str], advice: str) -> None:
    assert program.after_interruption(arguments) == advice


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
