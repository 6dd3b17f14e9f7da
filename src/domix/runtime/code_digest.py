"""A digest of the code that a result depends on: the key of everything that is kept between runs.

What a cache holds must be forgotten when code changes that decides about it, and only then. Lists of modules kept by
hand miss some; so the modules are those that the import statements lead to (domix.runtime.closure).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from domix.runtime.closure import Code, files_of
from domix.runtime.files import digest_of

PACKAGE = Path(__file__).resolve().parents[1]


@cache
def code_digest(*entry_points: str) -> str:
    """Return a digest of what some modules run: they, all that they import of domix, and the data files named there.

    Nothing is imported for it. An edit of any of these files changes the digest, unless it is one of comments,
    docstrings or layout; an edit of any other file does not. What was found is remembered as long as the process runs.

    Args:
        entry_points: dotted names of modules of domix, in any order.

    Raises:
        ValueError: there is no such module.
        SyntaxError: a module is not Python.
    """
    code, roots = _code(PACKAGE), {"domix": PACKAGE}
    programs = [file for name in entry_points for file in _module(name, roots)]
    return digest_of(**{path.relative_to(PACKAGE).as_posix(): code.digest(path) for path in code.closure(programs)})


@cache
def _code(package: Path) -> Code:
    return Code({"domix": package})


def _module(name: str, roots: dict[str, Path]) -> list[Path]:
    """Return the files that importing a module runs first: its packages' and its own."""
    files = files_of(name, roots)
    found = files[-1] if files else None
    own = roots["domix"].joinpath(*name.split(".")[1:])
    if found not in (own.with_name(f"{own.name}.py"), own / "__init__.py"):
        raise ValueError(f"there is no module {name} in domix")
    return files
