"""Settings from people: impossible numbers, misspelt names and misplaced secrets are refused where they are given."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from tasks.backfills.record import Backfill, Ceilings, Pace
from tasks.options import Credentials, FileOptions, Options, RunSettings
from tasks.selection import Selection
from tasks.store.settings import DestinationOptions
from tasks.upstage.limits import Limits


def measured(model: type[BaseModel]) -> list[str]:
    """The fields that take any real number."""
    return [name for name, field in model.model_fields.items() if "float" in str(field.annotation)]


@pytest.mark.parametrize("value", ["inf", "1e308", "nan", "-1"])
@pytest.mark.parametrize("model", [Options, FileOptions, Limits, Ceilings, Pace, Backfill])
def test_no_setting_takes_a_number_beyond_all_measure(model: type[Any], value: str) -> None:
    assert measured(model)
    for name in measured(model):
        with pytest.raises(ValidationError) as refused:
            model.model_validate({name: float(value)})
        assert name in {error["loc"][0] for error in refused.value.errors()}, f"{name} takes {value}"


@pytest.mark.parametrize(("model", "given", "location", "meant"), [
    (Options, {"max_pagse": 3}, ("max_pagse",), "max_pages"),
    (Options, {"schma": "clova"}, ("schma",), "schema"),
    (Options, {"destination": {"storage_clas": "GLACIER_IR"}}, ("destination", "storage_clas"), "storage_class"),
    (Options, {"pagination": 3}, ("pagination",), None),
    (Options, {"limits": {"sync_page": 3}}, ("limits", "sync_page"), "sync_pages"),
    (FileOptions, {"modle": "ocr"}, ("modle",), "model"),
    (Selection, {"inclde": "*.pdf"}, ("inclde",), "include"),
    (DestinationOptions, {"kms_ke": "alias/ocr"}, ("kms_ke",), "kms_key"),
    (Credentials, {"upstag": "team"}, ("upstag",), "upstage"),
    (RunSettings, {"destination": "s3://b/out", "sorce": "s3://b/in"}, ("sorce",), "source"),
])  # fmt: skip
def test_a_misspelt_setting_is_answered_with_the_name_that_was_meant(
    model: type[BaseModel], given: dict[str, object], location: tuple[str, ...], meant: str | None
) -> None:
    with pytest.raises(ValidationError) as refused:
        model.model_validate(given)
    (error,) = refused.value.errors()
    assert (error["loc"], error["type"]) == (location, "extra_forbidden")
    assert error["msg"] == "there is no such setting" + (f": did you mean {meant}?" if meant else "")


def test_a_misspelt_setting_hides_no_other_mistake() -> None:
    with pytest.raises(ValidationError) as refused:
        Options.model_validate({"max_pagse": 3, "workers": 0, "source": {"profle": "a"}, "text": True, "shard": 1})
    assert {error["loc"] for error in refused.value.errors()} == {("max_pagse",), ("workers",), ("source", "profle")}


SECRET = "up_A1b2C3d4E5f6G7h8"


@pytest.mark.parametrize(
    "given", [{"upstage": SECRET}, {"aws": SECRET}, {"upstage_key": SECRET}, {"aws": [SECRET]}, SECRET]
)
def test_a_secret_in_the_place_of_a_block_name_is_not_repeated_by_the_error(given: object) -> None:
    for model, wrong in (
        (Credentials, given),
        (RunSettings, {"destination": "s3://b/out", "credentials": given}),
        (RunSettings, {"credentials": given}),
    ):
        with pytest.raises(ValidationError) as refused:
            model.model_validate(wrong)
        assert SECRET not in str(refused.value)
    assert SECRET not in str(refused.value.errors())


@pytest.mark.parametrize("model", [Options, Selection, RunSettings])
def test_a_secret_in_a_setting_that_does_not_exist_is_not_repeated_by_the_error(model: type[BaseModel]) -> None:
    for given in ({"api_key": SECRET}, {"options": {"api_key": SECRET}}, {"credentals": {"upstage": SECRET}}):
        with pytest.raises(ValidationError) as refused:
            model.model_validate({"destination": "s3://b/out", **given} if model is RunSettings else given)
        assert SECRET not in str(refused.value)
