"""The base of models that people fill in: an unknown setting is refused, with the name that was probably meant."""

from collections.abc import Iterator
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from tasks.similar_names import SETTING_SIMILARITY, did_you_mean

_UNKNOWN = "extra_forbidden"  # pydantic's type of the error about a field that a model does not have
# Errors whose input may hold secrets: settings that were invented for them, or everything beside a missing setting.
_INPUT_HIDDEN = {_UNKNOWN, "missing"}


class SettingsModel(BaseModel):
    """Immutable settings. Unknown ones are refused; the error suggests the most similar name.

    Example:
        >>> class Size(SettingsModel):
        ...     max_pages: int = 10
        >>> Size(max_pagse=3)  # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
        pydantic_core._pydantic_core.ValidationError: 1 validation error for Size
        max_pagse
          there is no such setting: did you mean max_pages?
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="wrap")
    @classmethod
    def _suggest_settings(cls, given: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(given)
        except ValidationError as error:
            hidden = bool(cls.model_config.get("hide_input_in_errors"))
            if not hidden and not any(problem["type"] in _INPUT_HIDDEN for problem in error.errors()):
                raise
            raise ValidationError.from_exception_data(cls.__name__, list(_explained(cls, error, hidden))) from None


def _explained(model: type[BaseModel], error: ValidationError, hidden: bool) -> Iterator[InitErrorDetails]:
    """Yield the problems of an error anew, with suggestions, and without the input if the model hides it.

    The outermost model decides whether an error shows its input. So that a model within others can hide it, it is left
    out here.
    """
    for problem in error.errors(include_url=False):
        message, location = problem["msg"], problem["loc"]
        if problem["type"] == _UNKNOWN and len(location) == 1:
            message = _no_such_setting(model, str(location[0]))
        yield InitErrorDetails(
            type=PydanticCustomError(problem["type"], "{message}", {"message": message}),
            loc=location,
            input="(not shown)" if hidden or problem["type"] in _INPUT_HIDDEN else problem["input"],
        )


def _no_such_setting(model: type[BaseModel], name: str) -> str:
    fields = model.model_fields
    names = {*fields, *(field.alias for field in fields.values() if field.alias)}
    nearest = did_you_mean(name, names, SETTING_SIMILARITY)
    return "there is no such setting" + (f": did you mean {nearest}?" if nearest else "")
