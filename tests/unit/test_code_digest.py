"""The key of everything that is kept between runs: which edits change it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from domix.runtime import code_digest as digests
from domix.runtime.closure import Code
from domix.runtime.code_digest import code_digest

FILES = {
    "__init__.py": '"""The library."""\n',
    "embed.py": (
        "from __future__ import annotations\n"
        "from typing import TYPE_CHECKING\n"
        "import domix.direct\n"
        "from domix.room import submodule\n"
        "from .relative import name\n"
        "if TYPE_CHECKING:\n"
        "    from domix.typed import Kind\n"
        "def embed(kind: Kind) -> int:\n"
        '    """Embed."""\n'
        "    from domix.late import late\n"
        "    value = late(kind)\n"
        "    return value\n"
    ),
    "direct.py": "import domix.indirect\n",
    "indirect.py": "x = 1\n",
    "relative.py": "name = 1\n",
    "late.py": 'from importlib import resources\nTEXT = resources.files("domix.room") / "resources/list.txt"\n',
    "room/__init__.py": "y = 1\n",
    "room/submodule.py": "z = 1\n",
    "room/other.py": "z = 1\n",
    "room/resources/list.txt": "one\n",
    "room/resources/other.txt": "one\n",
    "typed.py": "class Kind: ...\n",
    "unused.py": "x = 1\n",
}
INSIDE = [
    "embed.py",
    "direct.py",
    "indirect.py",
    "relative.py",
    "late.py",
    "room/__init__.py",
    "room/submodule.py",
    "room/resources/list.txt",
]
Digest = Callable[[], str]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a small library in the place of domix."""
    folder = tmp_path / "domix"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(digests, "PACKAGE", folder)
    return folder


@pytest.fixture
def digest(package: Path) -> Iterator[Digest]:
    """Return a function that digests the code as it stands, as another process would."""

    def run() -> str:
        digests._code.cache_clear()
        code_digest.cache_clear()
        return code_digest("domix.embed")

    yield run
    digests._code.cache_clear()
    code_digest.cache_clear()


def edited(path: Path) -> None:
    path.write_text(path.read_text(encoding="utf-8") + "more = 1\n", encoding="utf-8")


@pytest.mark.parametrize("name", INSIDE)
def test_an_edit_of_anything_that_is_used_changes_the_key(package: Path, digest: Digest, name: str) -> None:
    before = digest()
    edited(package / name)
    assert digest() != before


@pytest.mark.parametrize("name", sorted(FILES.keys() - {*INSIDE, "__init__.py"}))
def test_an_edit_of_anything_else_does_not(package: Path, digest: Digest, name: str) -> None:
    before = digest()
    edited(package / name)
    assert digest() == before


EDITS: dict[str, tuple[str, str, bool]] = {
    "a comment": ("    value = late(kind)\n", "    value = late(kind)  # why\n", False),
    "a docstring": ('"""Embed."""', '"""Embed images."""', False),
    "no docstring": ('    """Embed."""\n', "", False),
    "empty lines": ("    return value\n", "\n\n    return value\n\n", False),
    "layout": ("late(kind)\n", "late(\n        kind,\n    )\n", False),
    "quotes": ('"""Embed."""', "'Embed.'", False),
    "a local name": ("value", "result", True),
    "an annotation": ("-> int", "-> float", True),
    "a number": ("return value", "return value + 1", True),
    "a text that is no docstring": ("    return value\n", "    text = 'Embed.'\n    return value\n", True),
}


@pytest.mark.parametrize(("old", "new", "counts"), EDITS.values(), ids=EDITS.keys())
def test_what_changes_nothing_that_runs_does_not_count(
    package: Path, digest: Digest, old: str, new: str, counts: bool
) -> None:
    before, path = digest(), package / "embed.py"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert (digest() != before) is counts


def test_a_further_import_widens_the_key(package: Path, digest: Digest) -> None:
    path = package / "relative.py"
    path.write_text(path.read_text() + "import domix.unused\n")
    before = digest()
    edited(package / "unused.py")
    assert digest() != before


def test_a_moved_clone_has_the_same_key(package: Path, digest: Digest, monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest()
    monkeypatch.setattr(digests, "PACKAGE", package.rename(package.with_name("elsewhere")))
    assert digest() == before


def test_a_process_reads_code_once(package: Path, digest: Digest) -> None:
    before = digest()
    edited(package / "embed.py")
    assert code_digest("domix.embed") == before


@pytest.mark.parametrize("name", ["domix.nothing", "domix.room.nothing", "domix.embed.name", "numpy", "tests.tiny"])
def test_a_module_that_is_not_there_is_named(package: Path, digest: Digest, name: str) -> None:
    with pytest.raises(ValueError, match=f"there is no module {name}"):
        code_digest(name)


def test_names_and_their_order_are_no_matter(package: Path, digest: Digest) -> None:
    assert digest() == code_digest("domix.late", "domix.embed") != code_digest("domix.late")
    assert code_digest("domix.room") != code_digest("domix.room.submodule")


def test_it_imports_nothing_and_takes_no_time() -> None:
    program = (
        "import sys, time; from domix.runtime.code_digest import code_digest; before = time.process_time();"
        "code_digest('domix.train.fit', 'domix.train.clip_module', 'domix.embed.clip');"
        "assert time.process_time() - before < 1.5, time.process_time() - before;"  # 0.2 s on a free machine
        "assert not {'torch', 'pandas', 'domix.train', 'domix.evaluate'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ)


def test_the_library_is_found() -> None:
    code = Code({"domix": digests.PACKAGE})
    found = {
        path.relative_to(digests.PACKAGE).as_posix()
        for path in code.closure([digests.PACKAGE / "data/pack/packing.py"])
    }
    assert {"data/pack/packing.py", "data/store/images.py", "data/store/shards.py", "runtime/seeds.py"} <= found
    assert not any(name.startswith(("train/", "report/")) for name in found)
