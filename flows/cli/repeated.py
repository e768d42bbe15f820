"""Fast handling of an option that occurs thousands of times, for which the parser would need minutes.

cyclopts scans all remaining arguments for each option, so its time grows with the square of their number. If there are
many values of `--key`, all but the first are removed before parsing and added again afterwards.
"""

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from cyclopts import App

from tasks.faults import SetupFault

if TYPE_CHECKING:
    from tasks.selection import Selection

_FLAG = "--key"
_MANY = 100


def call(app: App, arguments: Sequence[str] | None) -> Any:
    """Call an app like `app(arguments)`, in linear time.

    Raises:
        CycloptsError: the arguments are wrong.
        SetupFault: there are too many values, or one of them is wrong.
    """
    remaining = list(sys.argv[1:] if arguments is None else arguments)
    rest, values = take_out(remaining)
    if not values:
        return app(remaining, exit_on_error=False, print_error=False, result_action="return_value")
    command, bound, _ = app.parse_args(rest, exit_on_error=False, print_error=False)
    if "key" in bound.arguments:
        bound.arguments["key"] = [*bound.arguments["key"], *values]
    elif "selection" in bound.signature.parameters:
        bound.arguments["selection"] = _selecting(bound.arguments.get("selection"), values)
    run: Callable[..., Any] = command
    return run(*bound.args, **bound.kwargs)


def take_out(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Remove the values of the flag if there are many. The first stays, so that the parser checks whether it is valid.

    Returns:
        The remaining arguments, and the removed values.
    """
    if arguments.count(_FLAG) + sum(text.startswith(f"{_FLAG}=") for text in arguments) <= _MANY:
        return list(arguments), []
    rest: list[str] = []
    values: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        if argument == "--":
            rest += [argument, *waiting]
        elif argument.startswith(f"{_FLAG}="):
            values.append(argument.removeprefix(f"{_FLAG}="))
        elif argument == _FLAG and (value := next(waiting, None)) is not None:
            if value.startswith("-"):  # an option: the parser reports the missing value
                rest += [argument, value]
            else:
                values.append(value)
        else:
            rest.append(argument)
    if values:
        at = rest.index("--") if "--" in rest else len(rest)
        rest[at:at] = [f"{_FLAG}={values.pop(0)}"]
    return rest, values


def _selecting(given: "Selection | None", keys: Sequence[str]) -> "Selection":
    from pydantic import ValidationError

    from tasks.selection import EVERYTHING, Selection

    selection = EVERYTHING if given is None else given
    fields = selection.model_dump(exclude_unset=True) | {"key": (*selection.key, *keys)}
    try:
        return Selection.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        advice = "; name them in a file with --manifest" if first["type"] == "too_long" else ""
        message = first["msg"].removeprefix("Value error, ")
        raise SetupFault(f"{_FLAG}: {message}{advice} (see 'bulk-ocr --help')") from error
