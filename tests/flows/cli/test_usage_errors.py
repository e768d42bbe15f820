"""Errors in the arguments name the help of the command that was called."""

import pytest

from flows.cli.app import main


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["pdf", "s3://mine/scans", "s3://mine/ocr"],
            "one argument too many: s3://mine/ocr; its place is after --at (see 'bulk-ocr pdf --help')",
        ),
        (
            ["backfill", "list", "s3://mine/ocr"],
            "one argument too many: s3://mine/ocr; its place is after --at (see 'bulk-ocr backfill list --help')",
        ),
        (["config", "more"], "one argument too many: more (see 'bulk-ocr config --help')"),
        (["backfill", "show", "--nmae", "a"], "(see 'bulk-ocr backfill show --help')"),
        (
            ["plan", "s3://mine/scans", "s3://mine/ocr", "--requests-per-second", "fast", "--workers", "0"],
            "bulk-ocr: --workers: Input should be greater than or equal to 1; --requests-per-second: Input should be a "
            "valid number, unable to parse string as a number; Input should be 'auto' (see 'bulk-ocr plan --help')",
        ),
        (["nothing-like-it"], "(see 'bulk-ocr --help')"),
    ],
)
def test_an_error_points_to_the_help_of_its_command(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
