"""Work on documents that may end a process, as a program of its own: `extract.py TASK MEGABYTES FILE …`.

Run by `tasks.documents.files.apart`. Imports no more libraries than the task needs, so that it starts fast.

| task | arguments | prints |
|---|---|---|
| `part-tiff` | FILE FIRST LAST TO | |
| `part-pdf` | FILE FIRST LAST TO | how many pages the whole has, where qpdf had to repair something; else 0 |
| `unrestricted` | FILE TO | |
| `count` | FILE | what pdfium says, as JSON |
| `rebuild` | FILE PAGES TO | |
| `import` | FILE FIRST LAST TO | |
| `text-layers` | FILE TO TRUSTED | |
| `count-text-layers` | FILE TRUSTED | how many pages have a usable text layer |
| `compare` | FILE FIRST LAST PAGES PART AT | the page that looks different in the part, or 0 |
"""

import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

BROKEN, ENCRYPTED, MACHINE = 10, 11, 12  # how it ends, other than well
_MOST_CODE = 256 << 20  # bytes that the interpreter and its libraries take up, at the most


def _bound(megabytes: int, file: Path) -> None:
    with suppress(ImportError, ValueError, OSError):  # not everywhere
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        most = megabytes << 20
        everything = most + _MOST_CODE + 2 * file.stat().st_size  # libraries, and documents that are mapped
        resource.setrlimit(resource.RLIMIT_AS, (everything, everything))
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


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
    """Do a task within bounds on memory, and print what it gives, or why it cannot be done.

    Args:
        done: does the task, with the document and what else it takes.
        task: which.
        megabytes: how much memory it may take.
        file: the document.
        arguments: what else the task takes.

    Returns:
        How the program is to end.
    """
    _bound(int(megabytes), Path(file))
    # Found wherever the project lies, last, so that nothing of it is imported in place of a library.
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
