"""Settings that are numbers: what no arithmetic survives is refused where it is given."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from tasks.backfills.record import Backfill, Ceilings, Pace
from tasks.options import FileOptions, Options
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
