"""Import closures: which modules and data files a program runs, and digests of what they say.

The walk is static and follows imports wherever they stand, inside a function too. It leaves out

* imports under `if TYPE_CHECKING:`, which never run;
* a package's `__init__.py` that holds nothing but a docstring;
* modules that the caller names, together with what only they import.

Data files of packages (templates, class lists, model configurations) belong to the modules that name them: by a text in
their code which is the name of a file, or of a folder without modules, beside them, or by `files("package") / "name"`.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from domix.runtime.files import sha256_file

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
Roots = Mapping[str, Path]
"""Top-level package -> its folder."""


class Code:
    """The code of some packages as it stands; each file is read once."""

    def __init__(self, roots: Roots, *, without: Collection[Path] = ()) -> None:
        """Look into the packages of `roots`; leave modules out of it, and what only they import."""
        self._roots, self._without = roots, without
        self._next: dict[Path, list[Path]] = {}
        self._own: dict[Path, list[Path]] = {}
        self._digests: dict[Path, str] = {}

    def closure(self, programs: Iterable[Path]) -> list[Path]:
        """List the modules and data files that running `programs`, files of these packages, uses of them; sorted.

        Raises:
            SyntaxError: a module is not Python.
        """
        seen: set[Path] = set()
        waiting = list(programs)
        while waiting:
            path = waiting.pop()
            if path not in seen and path not in self._without:
                seen.add(path)
                waiting.extend(self._read(path))
        return sorted({file for path in seen for file in self._own[path]})

    def digest(self, path: Path) -> str:
        """Return what `digest_of` does."""
        if path not in self._digests:
            self._digests[path] = digest_of(path)
        return self._digests[path]

    def _read(self, path: Path) -> list[Path]:
        """Return the files that importing `path` runs next; note which files it stands for, itself and its data."""
        if path not in self._next:
            nodes = list(_running_nodes(_parse(path)))
            modules = _imports(nodes, _dotted(path, self._roots), package=path.name == "__init__.py")
            self._next[path] = [file for module in modules for file in files_of(module, self._roots)]
            self._own[path] = [] if only_docstring(path) else [path, *_data_of(nodes, path, self._roots)]
        return self._next[path]


def imports_of(path: Path, roots: Roots) -> list[str]:
    """List the dotted names that a file imports, `from a import b` as both a and a.b."""
    return _imports(_running_nodes(_parse(path)), _dotted(path, roots), package=path.name == "__init__.py")


def _imports(nodes: Iterable[ast.AST], name: str, *, package: bool) -> list[str]:
    inside = name.split(".") if package else name.split(".")[:-1]
    found = []
    for node in nodes:
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = inside[: len(inside) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return found


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file; of a Python module, of its syntax tree: no comment, docstring or layout counts."""
    if path.suffix != ".py":
        return sha256_file(path)
    return hashlib.sha256(_said(_parse(path)).encode()).hexdigest()


def only_docstring(path: Path) -> bool:
    """Tell whether a module is a package's `__init__.py` that runs nothing."""
    if path.name != "__init__.py":
        return False
    body = _parse(path).body
    return not body or (len(body) == 1 and _is_text(body[0]))


def _said(node: object) -> str:
    """Return a syntax tree as text, docstrings left out; what is empty or implied is not written, so that versions of
    Python that know of more fields give the same text.
    """
    if isinstance(node, list):
        return f"[{','.join(map(_said, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    parts = []
    for name in node._fields:
        value = getattr(node, name, None)
        if name == "body" and isinstance(node, DOCUMENTED) and node.body and _is_text(node.body[0]):
            value = node.body[1:]
        if value is not None and value != [] and name != "ctx":
            parts.append(f"{name}={_said(value)}")
    return f"{type(node).__name__}({','.join(parts)})"


def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _running_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk a syntax tree without the branches that only type checkers see."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and _is_type_checking(child.test):
            for node in child.orelse:
                yield node
                yield from _running_nodes(node)
            continue
        yield child
        yield from _running_nodes(child)


def _is_type_checking(test: ast.expr) -> bool:
    return getattr(test, "id", getattr(test, "attr", "")) == "TYPE_CHECKING"


def _dotted(path: Path, roots: Roots) -> str:
    for package, folder in roots.items():
        if path.is_relative_to(folder):
            parts = path.relative_to(folder).with_suffix("").parts
            return ".".join([package, *(part for part in parts if part != "__init__")])
    raise ValueError(f"{path} lies in none of {', '.join(map(str, roots.values()))}")


def files_of(module: str, roots: Roots) -> list[Path]:
    """List the files that importing `module` runs: its packages' `__init__.py` and its own; none of foreign ones."""
    package, *parts = module.split(".")
    if package not in roots:
        return []
    folder = roots[package]
    found = [folder / "__init__.py"]
    for part in parts:
        if (folder / f"{part}.py").is_file():
            found.append(folder / f"{part}.py")
            break
        folder = folder / part
        found.append(folder / "__init__.py")
    return [path for path in found if path.is_file()]


def _data_of(nodes: Iterable[ast.AST], path: Path, roots: Roots) -> Iterator[Path]:
    """Yield the data files that the code `nodes` of the module `path` names."""
    for node in nodes:
        for folder, name in _named(node, path, roots):
            named = folder / name
            if named.is_file() and named.suffix != ".py":
                yield named
            elif named.is_dir() and not any(named.rglob("*.py")):
                yield from (file for file in named.rglob("*") if file.is_file() and file.suffix != ".pyc")


def _named(node: ast.AST, path: Path, roots: Roots) -> Iterator[tuple[Path, str]]:
    """Yield what may be the names of data files in a node of a module's code, each with the folder that it is from."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.match(r"\w[\w./-]*$", node.value):
        yield path.parent, node.value
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and isinstance(node.left, ast.Call):
        call, name = node.left, _leading_text(node.right)
        given = call.args[0] if call.args and ast.unparse(call.func).endswith("files") else None
        if name and isinstance(given, ast.Constant) and str(given.value).split(".")[0] in roots:
            package, *parts = str(given.value).split(".")
            yield roots[package].joinpath(*parts), name


def _leading_text(node: ast.expr) -> str:
    """Return a text, or of one with places the folder that it starts with: `lists` of `f"lists/{name}.txt"`."""
    if isinstance(node, ast.JoinedStr) and node.values and isinstance(node.values[0], ast.Constant):
        return str(node.values[0].value).rpartition("/")[0]
    return str(node.value) if isinstance(node, ast.Constant) else ""
