"""`python -m deployments.render`: writes `prefect.yaml`, or checks whether it is up to date."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from deployments.render.deployments import render
from deployments.render.reading import PlacesError, read_places

ROOT = Path(__file__).resolve().parents[2]

app = App(name="python -m deployments.render", version_flags=[])


@app.default
def main(
    *,
    environment: str = "local",
    check: Annotated[bool, Parameter(negative="")] = False,
    places: Path = ROOT / "deployments" / "places.yaml",
    output: Path = ROOT / "prefect.yaml",
) -> int:
    """Generate prefect.yaml from the list of places.

    Args:
        environment: the environment in the list to generate the file for.
        check: write nothing, and exit with 1 if the file is out of date.
        places: the list of places.
        output: the file to write.
    """
    try:
        listed = read_places(places)
    except PlacesError as error:
        print(error, file=sys.stderr)
        return 2
    if environment not in listed.environments:
        print(f"{places}: there is no environment {environment!r}: {', '.join(listed.environments)}", file=sys.stderr)
        return 2
    text = render(listed, environment)
    same = output.exists() and output.read_text(encoding="utf-8") == text
    if check and not same:
        print(f"{output} does not match {places} for {environment}: run python -m deployments.render", file=sys.stderr)
        return 1
    if not same:
        output.write_text(text, encoding="utf-8")
    print(f"{output}: {text.count('entrypoint:')} deployments for {environment}, {'unchanged' if same else 'written'}")
    return 0


if __name__ == "__main__":
    sys.exit(app(result_action="return_value"))
