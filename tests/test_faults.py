"""The tree drawn in the docstring of `tasks/faults.py` is the tree of its classes."""

import inspect
import re

from tasks import faults


def test_the_drawn_tree_is_the_tree_of_the_classes() -> None:
    drawn: dict[str, str] = {}
    path: list[str] = []
    for prefix, name in re.findall(r"^    ([│ ├└─]*)(\w+)", inspect.cleandoc(faults.__doc__ or ""), re.MULTILINE):
        path[len(prefix) // 4 :] = [name]
        drawn[name] = path[-2] if len(path) > 1 else "Exception"
    classes = {
        name: found.__bases__[0].__name__
        for name, found in inspect.getmembers(faults, inspect.isclass)
        if issubclass(found, Exception) and found.__module__ == faults.__name__
    }
    assert drawn == classes
