"""A program for tasks on untrusted documents, which may crash its process: `layering.py TASK MEGABYTES FILE …`.

Run by `tasks.outputs.searchable_pdf`, through `tasks.documents.files.apart`.

| task | arguments | prints |
|---|---|---|
| `pages` | FILE FORMAT FOLDER | the PDFs in FOLDER with its pictures as pages, one a line |
| `layers` | RESULT TO REASON OWN BASE… | JSON: `pages`, `words`, `left`; OWN is JSON: `usable`, `invisible` pages |
"""

import sys
from pathlib import Path


def _done(task: str, file: Path, arguments: list[str]) -> str:
    if task == "pages":
        from tasks.outputs.picture_pages import write_picture_pages

        name, folder = arguments
        return "\n".join(part.name for part in write_picture_pages(file, name, Path(folder)))
    import json

    from tasks.documents.files.text_pages import OwnText
    from tasks.documents.results.read import read_pages
    from tasks.outputs.pdf_layers import add_text_layers

    to, reason, own_text, *bases = arguments
    if not bases:
        from tasks.outputs.text_pages import write_text_pages

        pages, words = write_text_pages(read_pages(file), reason, Path(to))
        return json.dumps({"pages": pages, "words": words, "left": 0})
    own_pages = json.loads(own_text)
    own_text_pages = OwnText(frozenset(own_pages["usable"]), frozenset(own_pages["invisible"]))
    pages, words = add_text_layers([Path(base) for base in bases], read_pages(file), Path(to), own_text_pages)
    return json.dumps({"pages": pages, "words": words, "left": len(own_text_pages.usable)})


if __name__ == "__main__":
    # Appended last, so that no module of the project shadows a library.
    sys.path.append(str(Path(__file__).parents[2]))
    from tasks.documents.files.extract import main

    sys.exit(main(_done, *sys.argv[1:]))
