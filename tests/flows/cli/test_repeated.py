"""Thousands of `--key` on one command line: the same as a few, and no slower for each."""

from typing import Annotated, Any

import pytest
from cyclopts import App, CycloptsError, Parameter
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.cli.repeated import call, take_out
from tasks.faults import SetupFault
from tasks.selection import EVERYTHING, Selection

KEYS = [f"in/{number}.pdf" for number in range(9_000)]


def flags(keys: list[str]) -> list[str]:
    return [argument for key in keys for argument in ("--key", key)]


@pytest.fixture
def app() -> App:
    """Commands that take keys as the product's do, and one that takes none."""
    made = App()

    @made.command
    def run(
        source: str,
        *,
        selection: Annotated[Selection, Parameter(name="*", negative="", negative_iterable="")] = EVERYTHING,
        workers: int = 1,
    ) -> Any:
        return source, selection, workers

    @made.command
    def retry(destination: str, *, key: Annotated[list[str] | None, Parameter(negative="")] = None) -> Any:
        return destination, key

    @made.command
    def status(destination: str) -> Any:
        return destination

    return made


def test_thousands_of_keys_are_all_taken_and_the_parser_sees_one(app: App) -> None:
    arguments = ["run", "s3://in", *flags(KEYS), "--include", "*.pdf", "--workers", "3"]
    rest, values = take_out(arguments)
    assert rest == ["run", "s3://in", "--include", "*.pdf", "--workers", "3", f"--key={KEYS[0]}"]
    assert values == KEYS[1:]
    assert call(app, arguments) == ("s3://in", Selection(key=tuple(KEYS), include=("*.pdf",)), 3)
    assert call(app, ["retry", "s3://out", *flags(KEYS)]) == ("s3://out", KEYS)


_keys = st.lists(st.from_regex(r"[a-z=. ]{1,8}", fullmatch=True), min_size=101, max_size=110)


@settings(max_examples=10)
@pytest.mark.parametrize("command", ["run", "retry"])
@given(keys=_keys, tail=st.booleans())
def test_the_outcome_is_the_parsers_own(app: App, command: str, keys: list[str], tail: bool) -> None:
    arguments = [command, *(["s3://x"] if not tail else []), *flags(keys), *(["s3://x"] if tail else [])]
    direct = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    assert call(app, arguments) == direct


def test_both_ways_to_write_it_and_what_follows_two_dashes() -> None:
    arguments = [f"--key={key}" for key in KEYS] + ["--", "--key", "x"]
    rest, values = take_out(arguments)
    assert (rest, values) == ([f"--key={KEYS[0]}", "--", "--key", "x"], KEYS[1:])
    few = flags(KEYS[:50])
    assert take_out(few) == (few, [])


def test_mistakes_are_told_as_with_few(app: App) -> None:
    with pytest.raises(CycloptsError, match="Unknown option"):
        call(app, ["status", "s3://out", *flags(KEYS)])
    with pytest.raises(CycloptsError):
        call(app, ["run", "s3://in", *flags(KEYS), "--key"])
    with pytest.raises(CycloptsError):
        call(app, ["run", "s3://in", *flags(KEYS), "--key", "--workers", "3"])
    with pytest.raises(SetupFault, match=r"--key: .*at most 10000 items.*--manifest"):
        call(app, ["run", "s3://in", *flags([*KEYS, *KEYS])])
    with pytest.raises(SetupFault, match="name them in a file with --manifest"):
        call(app, ["run", "s3://in", *flags([f"{'x' * 100}{key}" for key in KEYS])])
    with pytest.raises(SetupFault, match="not an object's address"):
        call(app, ["run", "s3://in", *flags([*KEYS[:200], "s3://nowhere"])])
