"""A digest of the code that a result depends on."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from pathlib import Path


def code_digest(*entry_points: str) -> str:
    """Return the SHA-256 over modules of domix and all that they import of it; comments and docstrings do not count."""
    sources: dict[str, str] = {}
    waiting = list(entry_points)
    while waiting:
        name = waiting.pop()
        path = _source(name)
        if name in sources or path is None:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and body and ast.get_docstring(node):
                node.body = body[1:]
            if isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        sources[name] = ast.dump(tree)
    return hashlib.sha256(repr(sorted(sources.items())).encode()).hexdigest()


def _source(name: str) -> Path | None:
    if name.split(".")[0] != "domix":
        return None
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec and spec.origin else None
