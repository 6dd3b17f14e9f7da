"""Build the bundled image set `emoji` from the packages that its artists' drawings are published in.

    python -m tools.build_emoji --packages FOLDER            write bundled/emoji and the lists of test classes
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
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tools.emoji import layout, notice, testclasses
from tools.emoji.artists import ARTISTS, DOMAINS, Artist
from tools.emoji.drawings import Package, open_drawings
from tools.emoji.objects import Object, load_objects
from tools.emoji.render import SIDE, render

ROOT = Path(__file__).parents[1]
BUNDLED = Path("bundled/emoji")
TEST_CLASSES = Path("src/domix/data/classes/resources/test_classes")
LARGEST = 15_000_000  # bytes that the set may take in Git
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
    size = sum(len(content) for name, content in files.items() if name.is_relative_to(BUNDLED))
    print(f"{len(files)} files, {size:,} bytes in {BUNDLED}, {time.perf_counter() - started:.0f} s", file=sys.stderr)
    if size > LARGEST:
        print(f"the set takes more than {LARGEST:,} bytes", file=sys.stderr)
        return 1
    return check(files, options.out) if options.check else write(files, options.out)


def build(packages: Path, workers: int | None = None) -> dict[Path, bytes]:
    """Draw the whole set: path relative to the repository -> content."""
    objects = load_objects()
    members: dict[str, dict[str, bytes]] = {domain: {} for domain in DOMAINS}
    drawn = {domain: {o.directory: set() for o in objects} for domain in DOMAINS}
    counts, licences = {}, dict(_own_licences())
    with ProcessPoolExecutor(workers) as pool:
        for artist in ARTISTS:
            package = Package(artist, packages)
            images = _draw(artist, package, objects, pool)
            for thing, image in images:
                members[artist.domain][layout.member_name(artist.domain, thing, artist.name)] = image
                drawn[artist.domain][thing.directory].add(artist.name)
            counts[artist.name] = len(images)
            licences |= _package_licence(artist, package)
            print(f"{artist.domain:10} {artist.name:28} {len(images)} drawings", file=sys.stderr)

    files = {f"{domain}.zip": layout.zip_bytes(members[domain]) for domain in DOMAINS} | licences
    for domain in DOMAINS:
        lines = layout.split_list(domain, objects, drawn[domain]).encode()
        files |= {f"{domain}_train.txt": lines, f"{domain}_test.txt": lines}
    files["classes.csv"] = layout.classes_csv(objects).encode()
    shared = sum(bool(o.domainnet) for o in objects)
    files["NOTICE.md"] = notice.notice(counts, classes=len(objects), shared=shared, side=SIDE).encode()
    files["manifest.json"] = layout.manifest_json(files).encode()
    return {BUNDLED / name: content for name, content in files.items()} | _test_class_lists(objects, drawn)


def _draw(
    artist: Artist, package: Package, objects: list[Object], pool: ProcessPoolExecutor
) -> list[tuple[Object, bytes]]:
    """Render what the artist has drawn of the objects."""
    drawing = open_drawings(artist, package)
    found = [(thing, svg) for thing in objects if (svg := drawing(thing)) is not None]
    images = pool.map(render, [svg for _, svg in found], chunksize=BATCH)
    return list(zip((thing for thing, _ in found), images, strict=True))


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
    """Write the files below `root`, and remove what an earlier build left in the set's folder."""
    for path in sorted((root / BUNDLED).glob("*")):
        if path.relative_to(root) not in files:
            path.unlink()
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return 0


def check(files: dict[Path, bytes], root: Path) -> int:
    """Say which files below `root` differ from `files`; return 1 if any does."""
    there = {path.relative_to(root) for path in (root / BUNDLED).glob("*")}
    wrong = [f"{path}: not part of the set" for path in sorted(there - set(files))]
    for path, content in sorted(files.items()):
        if not (root / path).exists():
            wrong.append(f"{path}: missing")
        elif (root / path).read_bytes() != content:
            wrong.append(f"{path}: differs")
    print("\n".join(wrong) or f"all {len(files)} files are as built, byte for byte", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
