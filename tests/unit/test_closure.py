"""Digests of code: what counts as a change, and which files belong to a program."""

from __future__ import annotations

from pathlib import Path

import pytest

from domix.runtime.closure import Code, digest_of, imports_of

MODULE = '''"""Doc."""

import os


class A:
    """Doc."""

    def b(self) -> str:
        """Doc,
        long."""
        return "#x"
'''


def digest(folder: Path, text: str) -> str:
    (folder / "module.py").write_text(text, encoding="utf-8")
    return digest_of(folder / "module.py")


@pytest.mark.parametrize(
    "text",
    [
        MODULE.replace("Doc", "Other words"),
        MODULE.replace("Doc,\n        long.", "Short."),
        MODULE.replace("import os\n", "import os  # why\n"),
        MODULE.replace("\n\n\nclass", "\n# A comment.\n\nclass"),
        MODULE.replace('"""Doc."""\n\nimport', "import"),
        MODULE.replace('return "#x"', "return (\n            '#x'\n        )"),
    ],
)
def test_comments_docstrings_and_layout_do_not_count(tmp_path: Path, text: str) -> None:
    assert text != MODULE and digest(tmp_path, text) == digest(tmp_path, MODULE)


@pytest.mark.parametrize(
    "text",
    [
        MODULE.replace("#x", "#y"),
        MODULE.replace("-> str", "-> object"),
        MODULE.replace("class A", "class B"),
        MODULE.replace('    """Doc."""\n\n    def', '    text = """Doc."""\n\n    def'),
        MODULE + "x = 1\n",
    ],
)
def test_all_else_does(tmp_path: Path, text: str) -> None:
    assert digest(tmp_path, text) != digest(tmp_path, MODULE)


FILES = {
    "a/__init__.py": '"""Doc."""\n',
    "a/start.py": "from a.inner import deep\nfrom a import log\n",
    "a/log.py": "import a.only_logged\n",
    "a/only_logged.py": "x = 1\n",
    "a/inner/__init__.py": '"""Doc."""\nfrom .deep import x\n',
    "a/inner/deep.py": 'x = 1\ntext = (files("a.data") / f"words/{x}.txt")\nmore = files("a.data") / "one.json"\n',
    "a/data/__init__.py": '"""Doc."""\n',
    "a/data/words/1.txt": "",
    "a/data/words/2.txt": "",
    "a/data/one.json": "{}",
    "a/data/two.json": "{}",
}


def test_a_closure_holds_modules_and_data_of_any_package_but_what_is_left_out(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    code = Code({"a": tmp_path / "a"}, without={tmp_path / "a/log.py"})
    found = [path.relative_to(tmp_path).as_posix() for path in code.closure([tmp_path / "a/start.py"])]
    modules = ["a/inner/__init__.py", "a/inner/deep.py", "a/start.py"]
    assert found == ["a/data/one.json", "a/data/words/1.txt", "a/data/words/2.txt", *modules]
    assert imports_of(tmp_path / "a/inner/__init__.py", {"a": tmp_path / "a"}) == ["a.inner.deep", "a.inner.deep.x"]
