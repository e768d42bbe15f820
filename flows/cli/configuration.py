"""The configuration file `bulk-ocr.toml` and the variables `BULK_OCR_…`: settings in force, and their origins.

    destination = "s3://scans/ocr"      # and source, environment, places-file
    [options]                           # for every command that has these options
    max-cost-per-day = 20
    [file]                              # for `bulk-ocr file` only, overriding [options]
    mode = "sync"
    [blocks]                            # names of blocks at the Prefect server
    upstage = "my-account"
    [places.letters]
    source = "s3://scans/letters"
    destination = "s3://scans/letters-ocr"

Variables take precedence over the folder's file, which takes precedence over the user's file. This module imports
neither Prefect nor S3 clients.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from pydantic import BaseModel, ValidationError

from tasks.faults import SetupFault
from tasks.options import Credentials, FileOptions, Options
from tasks.similar_names import SETTING_SIMILARITY, did_you_mean

FILE_NAME = "bulk-ocr.toml"
FILE_VARIABLE = "BULK_OCR_CONFIG"
_PREFIX = "BULK_OCR_"
_TOP = ("source", "destination", "environment", "places_file")
_TABLES: Mapping[str, type[BaseModel]] = {"options": Options, "file": FileOptions, "blocks": Credentials}
_SECRET_NAME = re.compile(r"api_?key|access_key|secret|password|token")
_SECRET_VALUE = re.compile(r"\bup_\w{16,}|\b(AKIA|ASIA)[A-Z0-9]{16}\b|://[^/@\s]+:[^/@\s]+@")
_ASSIGNMENT = re.compile(r"""\s*([\w."'-]+)\s*=""")
_HEADER = re.compile(r"""\s*\[+([^\]]+)\]""")

Value = str | int | float | bool


@dataclass(frozen=True)
class Setting:
    """A configured setting.

    Attributes:
        name: its name with its table, such as `options.max_pages`.
        value: its value as written.
        origin: the variable, or the file and line.
    """

    name: str
    value: Value
    origin: str


@dataclass(frozen=True)
class ConfiguredPlace:
    """A source and its destination, under a name."""

    name: str
    source: str
    destination: str
    origin: str


@dataclass(frozen=True)
class Configuration:
    """The configuration in force, apart from the command line.

    Attributes:
        settings: the settings by name.
        places: the places by name.
        files: the files that were read, in order of precedence.
        ignored: variables with this program's prefix that are not settings.
    """

    settings: Mapping[str, Setting] = field(default_factory=dict)
    places: Mapping[str, ConfiguredPlace] = field(default_factory=dict)
    files: Sequence[Path] = ()
    ignored: Sequence[str] = ()

    def text(self, name: str) -> str | None:
        """Return a setting as text; None if it is not configured."""
        setting = self.settings.get(name)
        return None if setting is None else str(setting.value)


def read_configuration(
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    user_folder: Path | None = None,
    user: int | None = None,
) -> Configuration:
    """Read the variables, the file of the folder (or of the nearest folder above it) and the user's file.

    Args:
        environment: the environment variables; this process's by default.
        folder: the working folder; this process's by default.
        user_folder: the folder of the user's file; the platform's configuration folder by default.
        user: the id of the user; this process's by default.

    Raises:
        SetupFault: a file cannot be read, or contains an unknown setting, a value out of bounds, or a secret.
    """
    environment = os.environ if environment is None else environment
    settings: dict[str, Setting] = {}
    places: dict[str, ConfiguredPlace] = {}
    files = list(_files(environment, folder or Path.cwd(), user_folder, os.getuid() if user is None else user))
    for file in reversed(files):
        source = _File.read(file)
        settings |= source.settings()
        places |= source.places()
    variables, ignored = _variables(environment)
    return Configuration(settings | variables, places, files, ignored)


def known_settings() -> list[str]:
    """Return the names of all settings except places."""
    names = list(_TOP)
    for table, model in _TABLES.items():
        names += [f"{table}.{name}" for name in _fields(model)]
    return names


def variable_of(name: str) -> str | None:
    """Return the variable of a setting; None for `file.…`, which exists only in files."""
    table, _, rest = name.partition(".")
    if not rest:
        return f"{_PREFIX}{'PLACES' if name == 'places_file' else name.upper()}"
    if table == "file":
        return None
    return _PREFIX + rest.replace(".", "_").upper() + ("_BLOCK" if table == "blocks" else "")


def written(name: str) -> str:
    """Return a setting's name as written in a file: `options.max-pages`."""
    return name.replace("_", "-")


def _fields(model: type[BaseModel]) -> Iterator[str]:
    for name, field_info in model.model_fields.items():
        inner = field_info.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from (f"{name}.{below}" for below in _fields(inner))
        else:
            yield name


def _files(environment: Mapping[str, str], folder: Path, user_folder: Path | None, user: int) -> Iterator[Path]:
    named_file = environment.get(FILE_VARIABLE)
    if named_file:  # this file and no other
        if not Path(named_file).exists():
            raise SetupFault(f"{FILE_VARIABLE} names {named_file}, which does not exist: correct it, or unset it")
        yield Path(named_file)
        return
    for above in (folder, *folder.parents):
        file = above / FILE_NAME
        if file.is_file():
            yield _trusted(file, user)
            break
    if user_folder is None:
        from platformdirs import user_config_path

        user_folder = user_config_path("bulk-ocr")
    file = user_folder / FILE_NAME
    if file.is_file():
        yield file


def _trusted(file: Path, user: int) -> Path:
    """Refuse a file of another user that was found by searching: it determines where documents are sent."""
    owner = file.stat().st_uid
    if owner not in (0, user):
        raise SetupFault(
            f"{file} belongs to another user (uid {owner}), who could have your results written elsewhere: "
            f"set {FILE_VARIABLE}={file} if you trust it"
        )
    return file


def _variables(environment: Mapping[str, str]) -> tuple[dict[str, Setting], list[str]]:
    by_variable = {variable: name for name in known_settings() if (variable := variable_of(name)) is not None}
    settings: dict[str, Setting] = {}
    ignored = []
    for variable, text in environment.items():
        if not variable.startswith(_PREFIX) or variable in (FILE_VARIABLE, f"{_PREFIX}VERSION"):
            continue
        name = by_variable.get(variable)
        if name is None:
            nearest = did_you_mean(variable, by_variable, SETTING_SIMILARITY)
            if nearest:
                raise SetupFault(f"{variable} is no setting: did you mean {nearest}?")
            ignored.append(variable)  # such as what Kubernetes sets for a service of that name
        elif text:
            settings[name] = Setting(name, text, variable)
    for table, model in _TABLES.items():
        table_settings = {name: setting for name, setting in settings.items() if name.startswith(f"{table}.")}
        wrong = next(_wrong(model, table, table_settings), None)
        if wrong is not None:
            name, message = wrong
            raise SetupFault(f"{variable_of(name)} = {message}")
    return settings, sorted(ignored)


def _wrong(model: type[BaseModel], table: str, settings: Mapping[str, Setting]) -> Iterator[tuple[str, str]]:
    """Yield each setting that a model rejects, with the reason. Their combination is checked with the arguments."""
    nested: dict[str, Any] = {}
    for name, setting in settings.items():
        *above, last = name.split(".")[1:]
        at = nested
        for part in above:
            at = at.setdefault(part, {})
        at[last] = setting.value
    try:
        model.model_validate(nested)
    except ValidationError as error:
        for problem in error.errors():
            loc = ["answer_schema" if part == "schema" else str(part) for part in problem["loc"]]
            names = [".".join((table, *loc[:end])) for end in range(len(loc), 0, -1)]
            setting_name = next((name for name in names if name in settings), None)
            if setting_name is not None:
                shown = "" if table == "blocks" else f"{settings[setting_name].value!r}: "
                yield setting_name, shown + problem["msg"].removeprefix("Value error, ")


class _File:
    """A configuration file, with checks.

    Args:
        path: its path.
        text: its text.
        content: its parsed content.
    """

    def __init__(self, path: Path, text: str, content: Mapping[str, Any]) -> None:
        self._path = path
        self._text = text
        self._content = content

    @classmethod
    def read(cls, path: Path) -> "_File":
        import tomllib

        try:
            text = path.read_text(encoding="utf-8")
            return cls(path, text, tomllib.loads(text))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            reason = str(error.strerror if isinstance(error, OSError) else error)
            if "Illegal character '\\n'" in reason:
                reason += "; perhaps a quotation mark is missing at the end of that line"
            raise SetupFault(f"{path} cannot be read: {reason}. Correct it") from error

    def settings(self) -> dict[str, Setting]:
        """Return the settings of all tables except places."""
        settings: dict[str, Setting] = {}
        for key, value in self._content.items():
            name = _normal(key)
            if name == "places":
                continue
            if name in _TABLES:
                settings |= self._table(name, value, (key,))
            elif name in _TOP:
                settings[name] = self._setting(name, value, (key,))
            else:
                self._unknown((key,), value, [*_TOP, *_TABLES, "places"])
        for table, model in _TABLES.items():
            wrong = next(_wrong(model, table, {k: v for k, v in settings.items() if k.startswith(f"{table}.")}), None)
            if wrong is not None:
                name, message = wrong
                raise SetupFault(f"{settings[name].origin}: {written(name)} = {message}")
        return settings

    def places(self) -> dict[str, ConfiguredPlace]:
        """Return the places by name."""
        places = self._content.get("places", {})
        if not isinstance(places, dict):
            self._refuse(("places",), "places are tables with a source and a destination: [places.NAME]")
        found = {}
        for name, sides in places.items():
            path = ("places", name)
            if not isinstance(sides, dict):
                self._refuse(path, f"a place has a source and a destination: write [places.{name}] and these two")
            for key, value in sides.items():
                if _normal(key) not in ("source", "destination"):
                    self._unknown((*path, key), value, ["source", "destination"])
                self._setting(f"places.{name}.{key}", value, (*path, key))
            missing = {"source", "destination"} - {_normal(key) for key in sides}
            if missing:
                self._refuse(path, f"the place {name} has no {' and no '.join(sorted(missing))}: add it")
            found[name] = ConfiguredPlace(name, sides["source"], sides["destination"], self._origin(path))
        return found

    def _table(self, table: str, content: object, path: tuple[str, ...]) -> dict[str, Setting]:
        if not isinstance(content, dict):
            self._refuse(path, f"{written('.'.join(path))} is a table: write [{table}], and its settings below")
        known = set(_fields(_TABLES[path[0]]))
        above = ".".join(_normal(part) for part in path[1:])
        settings: dict[str, Setting] = {}
        for key, value in content.items():
            name = _normal(key)
            if table == "blocks":
                name = name.removesuffix("_block")
            if name == "schema":
                name = "answer_schema"
            below = f"{above}.{name}" if above else name
            if isinstance(value, dict) and any(other.startswith(f"{below}.") for other in known):
                settings |= self._table(table, value, (*path, key))
            elif any(other.startswith(f"{below}.") for other in known):
                if len(path) == 1 and name in _TOP:
                    self._refuse(
                        (*path, key),
                        f"{written('.'.join((*path, key)))} is a table of several settings: did you mean "
                        f"{written(name)} at the top of the file, above all tables?",
                    )
                self._refuse((*path, key), f"{written('.'.join((*path, key)))} is a table of several settings")
            elif below in known:
                settings[f"{table}.{below}"] = self._setting(f"{table}.{below}", value, (*path, key))
            else:
                inner = {other.removeprefix(f"{above}.") if above else other for other in known}
                self._unknown((*path, key), value, sorted(inner))
        return settings

    def _setting(self, name: str, value: object, path: tuple[str, ...]) -> Setting:
        if isinstance(value, str) and _SECRET_VALUE.search(value):
            self._refuse_secret(path)
        if not isinstance(value, Value):
            self._refuse(path, f"{written(path[-1])} takes one value: text, a number, true or false")
        if ("." not in name or name.startswith("places.")) and (not isinstance(value, str) or not value):
            self._refuse(path, f"{written(path[-1])} takes text in quotation marks")
        return Setting(name, value, self._origin(path))

    def _unknown(self, path: tuple[str, ...], value: object, known: Sequence[str]) -> NoReturn:
        if _SECRET_NAME.search(_normal(path[-1])) or (isinstance(value, str) and _SECRET_VALUE.search(value)):
            self._refuse_secret(path)
        nearest = did_you_mean(_normal(path[-1]), known, SETTING_SIMILARITY)
        if len(path) == 2 and _normal(path[1]) in _TOP:
            self._refuse(
                path,
                f"{written('.'.join(path))} is no setting: did you mean {written(path[1])} at the top of the file, "
                "above all tables?",
            )
        if len(path) == 1 and _normal(path[0]) in set(_fields(Options)):
            self._refuse(path, f"{written(path[0])} is one of the options: write it below [options]")
        advice = f"did you mean {written(nearest)}?" if nearest else "'bulk-ocr config --all' lists what can be set"
        self._refuse(path, f"{written('.'.join(path))} is no setting: {advice}")

    def _refuse_secret(self, path: tuple[str, ...]) -> NoReturn:
        self._refuse(
            path,
            f"{written('.'.join(path))} looks like a secret, and files like this are copied and committed. Take it "
            "out: set UPSTAGE_API_KEY (boto3's own variables for S3), or name blocks under [blocks]",
        )

    def _refuse(self, path: tuple[str, ...], message: str) -> NoReturn:
        raise SetupFault(f"{self._origin(path)}: {message}")

    def _origin(self, path: tuple[str, ...]) -> str:
        line = self._line(path)
        return f"{self._path}" if line is None else f"{self._path}, line {line}"

    def _line(self, path: tuple[str, ...]) -> int | None:
        """Find the line in which a key is set. The parser does not report it; this covers the usual notations."""
        table: tuple[str, ...] = ()
        nearest = None
        for number, line in enumerate(self._text.splitlines(), 1):
            if header := _HEADER.match(line):
                current = table = _parts(header[1])
            elif assignment := _ASSIGNMENT.match(line):
                current = (*table, *_parts(assignment[1]))
            else:
                continue
            if current == path:
                return number
            if current == path[: len(current)]:
                nearest = number
        return nearest


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))


def _normal(key: str) -> str:
    return key.replace("-", "_").lower()
