"""Fills in missing arguments from the configuration, before the arguments are converted."""

from collections.abc import Sequence

from cyclopts import App, Token
from cyclopts.argument import Argument, ArgumentCollection

from flows.cli.configuration import read_configuration
from flows.cli.places import known_places

_CEILINGS = ("max_pages", "page_budget")  # two names for the same option
_DESTINATIONS = ("--destination", "--at", "--place")


def fill_in(_app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Set each missing argument from the environment or a file. Called by the parser.

    Raises:
        SetupFault: the configuration is wrong.
    """
    if commands in (("demo",), ("config",), ("schema",)):
        return
    configuration = read_configuration()
    given_names = {argument.keys[-1] for argument in arguments if argument.tokens and argument.keys}
    _fill_from_place(arguments)
    for argument in arguments:
        if argument.tokens or not argument.parse:
            continue
        for name in _settings_of(argument, commands):
            if name.split(".")[-1] in _CEILINGS and (given_names & {*_CEILINGS} or commands == ("plan",)):
                break  # the other name was given; or nothing is sent, so there is nothing to bound
            setting = configuration.settings.get(name)
            if setting is not None:
                text = str(setting.value).lower() if isinstance(setting.value, bool) else str(setting.value)
                argument.append(Token(keyword=name, value=text, source=setting.origin))
                break


def _fill_from_place(arguments: ArgumentCollection) -> None:
    """If the source is the name of a place, use that place's destination as well."""
    source = _side(arguments, "source")
    destination = _side(arguments, "destination")
    if source is None or destination is None or not source.tokens or destination.tokens:
        return
    place_name = source.tokens[0].value
    if "/" not in place_name:
        place = next((place for place in known_places() if place.name == place_name), None)
        if place is not None:
            destination.append(Token(keyword="place", value=place.destination, source=f"the place {place_name}"))


def _side(arguments: ArgumentCollection, side: str) -> Argument | None:
    return next((argument for argument in arguments if argument.keys == (side,) and argument.hint is str), None)


def _settings_of(argument: Argument, commands: tuple[str, ...]) -> Sequence[str]:
    """Return the settings that can provide an argument's value, in order of precedence."""
    keys = argument.keys
    if commands == ("file",) and keys:
        below = ".".join(keys)
        return [f"file.{below}", f"options.{below}"]
    if len(keys) > 1:
        rest = ".".join(keys[1:])
        return {
            "options": [f"options.{rest}"],
            "bucket": [f"options.destination.{rest}"],
            "credentials": [f"blocks.{rest}"],
        }.get(keys[0], [])
    if "--price-per-page" in argument.names:
        return ["options.price_per_page"]
    if keys == ("source",) and argument.hint is str:
        return ["source"]
    if commands != ("pdf",) and not argument.children and {*_DESTINATIONS, "PLACES"} & {*argument.names}:
        return ["destination"] if "PLACES" not in argument.names or commands == ("status",) else []
    return []
