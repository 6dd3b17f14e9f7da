"""Build the bundled image sets `emoji` and `emoji-ood` from the packages that their artists' drawings are published in.

    python -m tools.build_emoji --packages FOLDER            write bundled/ and the lists of test classes
    python -m tools.build_emoji --packages FOLDER --check    draw everything, compare with what is there, write nothing

Needs the packages of requirements/tools.txt. FOLDER holds npm tarballs; one that is missing is fetched with `npm pack`.
Every tarball's SHA-256 is checked (tools/emoji/artists.py), and the same tarballs give the same bytes: times are fixed,
members sorted, images compressed without loss by pinned libraries.

Twelve artists, two a domain: see tools/emoji/artists.py and bundled/emoji/NOTICE.md for who stands for what and why.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tools.emoji import layout, notice, testclasses
from tools.emoji.artists import ARTISTS, DOMAINS, Artist
from tools.emoji.drawings import Drawings, Package, open_drawings
from tools.emoji.objects import OUTSIDE, Object, load_objects
from tools.emoji.render import SIDE, render

ROOT = Path(__file__).parents[1]
BUNDLED, BUNDLED_OOD = Path("bundled/emoji"), Path("bundled/emoji-ood")
TEST_CLASSES = Path("src/domix/data/classes/resources/test_classes")
LARGEST = {BUNDLED: 15_000_000, BUNDLED_OOD: 2_000_000}  # bytes that a set may take in Git
BATCH = 50  # drawings that a process renders at a time


def main() -> int:
    """Build or check; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, default=ROOT / "build/packages", help="folder of npm tarballs")
    parser.add_argument("--out", type=Path, default=ROOT, help="repository root to write into")
    parser.add_argument("--check", action="store_true", help="compare with what is there and write nothing")
    parser.add_argument("--workers", type=int, default=None, help="processes that draw (default: one a core)")
    options = parser.parse_args()
    started = time.perf_counter()
    options.packages.mkdir(parents=True, exist_ok=True)
    files = build(options.packages, options.workers)
    print(f"{len(files)} files, {time.perf_counter() - started:.0f} s", file=sys.stderr)
    for folder, largest in LARGEST.items():
        size = sum(len(content) for name, content in files.items() if name.is_relative_to(folder))
        print(f"{size:,} bytes in {folder}", file=sys.stderr)
        if size > largest:
            print(f"{folder} takes more than {largest:,} bytes", file=sys.stderr)
            return 1
    return check(files, options.out) if options.check else write(files, options.out)


def build(packages: Path, workers: int | None = None) -> dict[Path, bytes]:
    """Draw both sets: path relative to the repository -> content."""
    objects, outside = load_objects(), load_objects(OUTSIDE)
    licences, drawings = dict(_own_licences()), {}
    for artist in ARTISTS:
        package = Package(artist, packages)
        drawings[artist] = open_drawings(artist, package)
        licences |= _package_licence(artist, package)
    with ProcessPoolExecutor(workers) as pool:
        drawn, files = _draw_set(objects, drawings, pool)
        drawn_ood, files_ood = _draw_set(outside, drawings, pool)

    shared = sum(bool(o.domainnet) for o in objects)
    counts, counts_ood = ({a.name: _count(d[a.domain], a.name) for a in ARTISTS} for d in (drawn, drawn_ood))
    files["NOTICE.md"] = notice.notice(counts, classes=len(objects), shared=shared, side=SIDE).encode()
    files_ood["NOTICE.md"] = notice.notice_ood(counts_ood, outside, side=SIDE).encode()
    made = _test_class_lists(objects, drawn)
    for folder, content in {BUNDLED: files, BUNDLED_OOD: files_ood}.items():
        content |= licences
        content["manifest.json"] = layout.manifest_json(content).encode()
        made |= {folder / name: data for name, data in content.items()}
    return made


def _count(cells: Mapping[str, set[str]], artist: str) -> int:
    return sum(artist in artists for artists in cells.values())


def _draw_set(
    objects: list[Object], drawings: Mapping[Artist, Drawings], pool: ProcessPoolExecutor
) -> tuple[dict[str, dict[str, set[str]]], dict[str, bytes]]:
    """Draw a set's objects: domain -> class directory -> who has drawn it, and the archives, lists and classes."""
    members: dict[str, dict[str, bytes]] = {domain: {} for domain in DOMAINS}
    drawn = {domain: {o.directory: set() for o in objects} for domain in DOMAINS}
    for artist, drawing in drawings.items():
        found = [(thing, svg) for thing in objects if (svg := drawing(thing)) is not None]
        images = pool.map(render, [svg for _, svg in found], chunksize=BATCH)
        for (thing, _), image in zip(found, images, strict=True):
            members[artist.domain][layout.member_name(artist.domain, thing, artist.name)] = image
            drawn[artist.domain][thing.directory].add(artist.name)
        print(f"{artist.domain:10} {artist.name:28} {len(found)} drawings", file=sys.stderr)
    files = {f"{domain}.zip": layout.zip_bytes(members[domain]) for domain in DOMAINS}
    for domain in DOMAINS:
        lines = layout.split_list(domain, objects, drawn[domain]).encode()
        files |= {f"{domain}_train.txt": lines, f"{domain}_test.txt": lines}
    return drawn, files | {"classes.csv": layout.classes_csv(objects).encode()}


def _own_licences() -> dict[str, bytes]:
    """Read the licence texts that the packages do not carry."""
    folder = Path(__file__).parent / "emoji/licences"
    return {f"LICENSE-{path.name}": path.read_bytes() for path in sorted(folder.glob("*.txt"))}


def _package_licence(artist: Artist, package: Package) -> dict[str, bytes]:
    """Return the licence text that the package carries for its drawings, if it does."""
    source = {"openmoji": "LICENSE.txt", "font": "LICENSE_FONT"}.get(artist.kind)
    return {f"LICENSE-{artist.licence}.txt": package.read(source)} if source else {}


def _test_class_lists(objects: list[Object], drawn: dict[str, dict[str, set[str]]]) -> dict[Path, bytes]:
    by_text = {d: {o.text: drawn[d][o.directory] for o in objects} for d in DOMAINS}
    chosen = {name: testclasses.choose_test_classes(by_text, count) for name, count in testclasses.COUNTS.items()}
    lists = chosen | {"domainnet": list(testclasses.PAPER)}
    return {TEST_CLASSES / f"{name}.txt": testclasses.list_text(names).encode() for name, names in lists.items()}


def write(files: dict[Path, bytes], root: Path) -> int:
    """Write the files below `root`, and remove what an earlier build left in the sets' folders."""
    for path in sorted(_there(root) - set(files)):
        (root / path).unlink()
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return 0


def check(files: dict[Path, bytes], root: Path) -> int:
    """Say which files below `root` differ from `files`; return 1 if any does."""
    wrong = [f"{path}: not part of the set" for path in sorted(_there(root) - set(files))]
    for path, content in sorted(files.items()):
        if not (root / path).exists():
            wrong.append(f"{path}: missing")
        elif (root / path).read_bytes() != content:
            wrong.append(f"{path}: differs")
    print("\n".join(wrong) or f"all {len(files)} files are as built, byte for byte", file=sys.stderr)
    return 1 if wrong else 0


def _there(root: Path) -> set[Path]:
    """Return the files in the sets' folders, relative to the repository."""
    return {path.relative_to(root) for folder in LARGEST for path in (root / folder).glob("*")}


if __name__ == "__main__":
    sys.exit(main())
