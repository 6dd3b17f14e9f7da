"""Write the tables' part of docs/architecture.md from the declarations that domix.schemas collects.

python -m tools.document_tables            write it
python -m tools.document_tables --check    exit with 1 where the committed file is out of date
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from domix.runtime.tables import TableSchema
from domix.schemas import tables

PAGE = Path(__file__).resolve().parent.parent / "docs" / "architecture.md"
BEGIN, END = "<!-- tables: begin (make docs writes this part) -->", "<!-- tables: end -->"


def markdown(declared: Iterable[TableSchema]) -> str:
    """Return the tables as Markdown: where each lies, who writes it, what a row is, and its columns."""
    return "\n".join(_table(schema) for schema in declared)


def _table(schema: TableSchema) -> str:
    stages = ", ".join(f"`{stage}`" for stage in schema.written_by.split(", "))
    lines = [
        f"**`{schema.path}`**, written by {stages}: {schema.meaning}.",
        "",
        "| column | type | meaning |",
        "|---|---|---|",
    ]
    for column in schema.columns:
        cells = (f"`{column.name}`", column.dtype, column.meaning)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def page(text: str) -> str:
    """Return the page with the tables' part as it should be.

    Raises:
        ValueError: the page has no such part.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE} lacks the lines {BEGIN!r} and {END!r}")
    return f"{before}{begin}\n{markdown(tables())}\n{end}{after}"


def main() -> int:
    """Write or check; return the exit code."""
    text = PAGE.read_text(encoding="utf-8")
    wanted = page(text)
    if "--check" in sys.argv[1:]:
        if text != wanted:
            print("docs/architecture.md is out of date: make docs writes it again", file=sys.stderr)
        return int(text != wanted)
    if text != wanted:
        PAGE.write_text(wanted, encoding="utf-8")
    print(f"docs/architecture.md {'is up to date' if text == wanted else 'is written'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
