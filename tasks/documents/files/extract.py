"""A program for work on documents that may crash the process: `extract.py TASK MEGABYTES FILE …`.

Run by `tasks.documents.files.apart`. It imports only the libraries that the task needs, so that it starts fast.

| task | arguments | prints |
|---|---|---|
| `part-tiff` | FILE FIRST LAST TO | |
| `part-pdf` | FILE FIRST LAST TO | the document's number of pages if qpdf had to repair something, else 0 |
| `unrestricted` | FILE TO | |
| `count` | FILE | pdfium's findings, as JSON |
| `rebuild` | FILE PAGES TO | |
| `import` | FILE FIRST LAST TO | |
| `text-layers` | FILE TO TRUSTED | |
| `count-text-layers` | FILE TRUSTED | the number of pages with a usable text layer |
| `compare` | FILE FIRST LAST PAGES PART AT | the page that looks different in the part, or 0 |
"""

import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

BROKEN, ENCRYPTED, MACHINE = 10, 11, 12  # exit statuses of failures
_MOST_CODE = 256 << 20  # upper bound in bytes for the interpreter and its libraries


def _bound(megabytes: int, file: Path) -> None:
    with suppress(ImportError, ValueError, OSError):  # not available on every system
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        data_limit = megabytes << 20
        address_limit = data_limit + _MOST_CODE + 2 * file.stat().st_size  # plus libraries and mapped documents
        resource.setrlimit(resource.RLIMIT_AS, (address_limit, address_limit))
        resource.setrlimit(resource.RLIMIT_DATA, (data_limit, data_limit))


def _done(task: str, file: Path, arguments: list[str]) -> str:
    if task == "part-tiff":
        from tasks.documents.files import tiff

        first, last, to = arguments
        tiff.write_frames(file, int(first), int(last), Path(to))
        return ""
    if task in ("part-pdf", "unrestricted"):
        from tasks.documents.files import pdf_parts

        if task == "unrestricted":
            pdf_parts.write_unrestricted(file, Path(arguments[0]))
            return ""
        first, last, to = arguments
        return str(pdf_parts.write_part(file, int(first), int(last), Path(to)))
    if task in ("text-layers", "count-text-layers"):
        from tasks.documents.files import text_layers

        trusted = arguments[-1] == "1"
        if task == "count-text-layers":
            return str(text_layers.count_text_layers(file, trust_ocr_layers=trusted))
        text_layers.write_text_layers(file, Path(arguments[0]), trust_ocr_layers=trusted)
        return ""
    from tasks.documents.files import pdf_second_reader

    if task == "count":
        return pdf_second_reader.count(file)
    if task == "rebuild":
        pdf_second_reader.rebuild(file, int(arguments[0]), Path(arguments[1]))
        return ""
    if task == "import":
        first, last, to = arguments
        pdf_second_reader.write_part(file, int(first), int(last), Path(to))
        return ""
    first, last, pages, part, at = arguments
    return str(pdf_second_reader.first_difference(file, int(first), int(last), int(pages), Path(part), int(at)))


def main(done: Callable[[str, Path, list[str]], str], task: str, megabytes: str, file: str, *arguments: str) -> int:
    """Run a task within memory limits, and print its result or the reason why it failed.

    Args:
        done: runs the task, given its name, the document and the other arguments.
        task: the name of the task.
        megabytes: the memory limit.
        file: the document.
        arguments: the task's other arguments.

    Returns:
        The exit status of the program.
    """
    _bound(int(megabytes), Path(file))
    # Appended last, so that no module of the project shadows a library.
    sys.path.append(str(Path(__file__).parents[3]))
    try:
        print(done(task, Path(file), list(arguments)))
    except OSError as error:
        print(error.errno or 0)
        return MACHINE
    except Exception as error:  # noqa: BLE001  # whatever a damaged document makes a library raise
        print((str(error) or type(error).__name__).encode("ascii", "replace").decode())
        return ENCRYPTED if type(error).__name__ == "PasswordError" else BROKEN
    return 0


if __name__ == "__main__":
    sys.exit(main(_done, *sys.argv[1:]))
