"""Which environment variables Prefect and its Redis messaging know: an unknown one is ignored without a word."""

import inspect
from collections.abc import Iterator, Mapping

from prefect.settings import Settings
from prefect.settings.base import PrefectBaseSettings
from prefect_redis.client import RedisMessagingSettings
from pydantic import AliasChoices


def known_settings() -> dict[str, str]:
    """The names of all settings, upper case, with the dotted path of each."""
    return {name: path for root in (Settings, RedisMessagingSettings) for name, path in _names(root, root.__name__)}


def unknown_settings(environment: Mapping[str, object]) -> list[str]:
    """Those of the variables that are meant for Prefect and that it does not know."""
    known = known_settings()
    return [name for name in environment if name.startswith("PREFECT_") and name not in known]


def _names(settings: type[PrefectBaseSettings], path: str) -> Iterator[tuple[str, str]]:
    prefix = settings.model_config.get("env_prefix", "")
    for name, field in settings.model_fields.items():
        here = f"{path}.{name}"
        if inspect.isclass(field.annotation) and issubclass(field.annotation, PrefectBaseSettings):
            yield from _names(field.annotation, here)
            continue
        yield f"{prefix}{name}".upper(), here
        if isinstance(field.validation_alias, AliasChoices):
            yield from ((alias.upper(), here) for alias in field.validation_alias.choices if isinstance(alias, str))
