"""The command `bulk-ocr`. Data goes to standard output, progress and errors to standard error.

Only what the list of commands needs is imported here: the program's help is there at once.
"""

import sys
from collections.abc import Sequence
from importlib.metadata import version
from itertools import takewhile

from cyclopts import App, CycloptsError, Parameter, UnusedCliTokensError
from cyclopts.argument import ArgumentCollection

from flows.cli.command_list import register_commands
from flows.cli.output import complain, flush, prepare_streams
from flows.cli.repeated import call
from flows.cli.signals import end_on_signals
from tasks.faults import EndsRun, ExitStatus, Fault

_SENDING = ("run", "submit", "collect", "listen", "file")


def shown_default(value: object) -> str | None:
    """Return a default for the help; None if the option is off or empty by default."""
    return None if value is None or value is False else str(value)


def _fill_in(program: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Set missing arguments from the configuration, which is read only for a command that is called."""
    from flows.cli.fill_in import fill_in

    fill_in(program, commands, arguments)


app = App(
    name="bulk-ocr",
    help="Bulk OCR of documents in S3: nothing is lost, nothing is paid for twice uncounted.",
    version_flags=["--version"],
    version=version("bulk-ocr"),
    default_parameter=Parameter(show_default=shown_default),
    config=(_fill_in,),
    help_format="plaintext",
    suppress_keyboard_interrupt=False,  # handled in `main`
)
register_commands(app)


def _usage(error: CycloptsError) -> str:
    """What is wrong with the arguments, in one line."""
    from pydantic import ValidationError

    cause = error.__cause__ or error.__context__
    if isinstance(cause, ValidationError):
        messages_by_flag: dict[str, dict[str, None]] = {}  # without repetition, in order
        for problem in cause.errors():
            message = problem["msg"].removeprefix("Value error, ")
            messages_by_flag.setdefault(_flag(problem["loc"]), {})[message] = None
        return "; ".join(f"{flag}{'; '.join(messages)}" for flag, messages in messages_by_flag.items())
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        remark = "; its place is after --at" if _takes_at(error) else ""
        return f"one argument too many: {' '.join(error.unused_tokens)}{remark}"
    return " ".join(str(error).split())


def _takes_at(error: CycloptsError) -> bool:
    """Whether the command takes the address of its ledger or results as an option."""
    command = app
    for name in error.command_chain or ():
        command = command[name]
    return any("--at" in argument.names for argument in command.assemble_argument_collection())


def _help_of(error: CycloptsError) -> str:
    """The command whose help explains the arguments."""
    return " ".join(["bulk-ocr", *(error.command_chain or ()), "--help"])


def _flag(location: tuple[int | str, ...]) -> str:
    """Return the flag of an option in error, with a colon; empty if the error is about several options."""
    from tasks.options import Credentials

    parts = [part for part in location if isinstance(part, str)]
    # Below the field, the location of an error has the type that was tried, such as "literal['auto']".
    flag = ".".join(part.replace("_", "-") for part in takewhile(str.isidentifier, parts))
    flag += "-block" if flag.replace("-", "_") in Credentials.model_fields else ""
    return f"--{flag}: " if flag else ""


def after_interruption(arguments: Sequence[str]) -> str:
    """Say how to go on with a command that was interrupted."""
    words = [word for word in arguments if not word.startswith("-")]
    if words[:1] == ["watch"]:
        return "the runs of the backfill are not affected"
    if words and (words[0] in _SENDING or words[:2] == ["backfill", "start"]):
        return "what was sent is on record: rerun the command to resume"
    return "nothing was sent: rerun the command at any time"


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script."""
    prepare_streams()
    end_on_signals()
    try:
        code = call(app, arguments)
        flush()
    except CycloptsError as error:
        complain(f"{_usage(error)} (see '{_help_of(error)}')")
        code = ExitStatus.SETUP
    except Fault as fault:
        complain(str(fault))
        code = fault.exit_status if isinstance(fault, EndsRun) else ExitStatus.SETUP
    except KeyboardInterrupt:
        complain(f"interrupted; {after_interruption(sys.argv[1:] if arguments is None else arguments)}")
        code = ExitStatus.INTERRUPTED
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
