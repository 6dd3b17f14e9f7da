"""The files of the set: DomainNet's layout of archives and split lists; equal input gives equal bytes."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import zipfile
from collections.abc import Iterable

from tools.emoji.artists import ARTISTS
from tools.emoji.objects import Object

EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that zip can say


def member_name(domain: str, thing: Object, artist: str) -> str:
    """Return the path of a drawing in its domain's archive and lists."""
    return f"{domain}/{thing.directory}/{artist}.webp"


def zip_bytes(members: dict[str, bytes]) -> bytes:
    """Pack members, sorted, uncompressed (they are compressed images), with fixed times and rights."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(name, EPOCH)
            info.create_system = 3  # Unix, wherever this runs
            info.external_attr = 0o100644 << 16
            archive.writestr(info, members[name])
    return buffer.getvalue()


def split_list(domain: str, objects: Iterable[Object], drawn: dict[str, set[str]]) -> str:
    """Write a split list: `path label` a line, classes in label order, within a class one line an artist.

    Which artist comes first alternates with the label, so that a mixture which keeps only the first line of every class
    draws on both artists alike.

    Args:
        drawn: class directory -> artists who drew it in this domain.
    """
    artists = [artist.name for artist in ARTISTS if artist.domain == domain]
    lines = []
    for thing in objects:
        turn = thing.label % len(artists)
        for artist in artists[turn:] + artists[:turn]:
            if artist in drawn[thing.directory]:
                lines.append(f"{member_name(domain, thing, artist)} {thing.label}\n")
    return "".join(lines)


def classes_csv(objects: Iterable[Object]) -> str:
    """Write the table of classes."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["label", "class", "directory", "emoji", "domainnet_class", "group", "code_points"])
    for o in objects:
        writer.writerow([o.label, o.text, o.directory, o.emoji, o.domainnet, o.group, o.code_points])
    return buffer.getvalue()


def manifest_json(files: dict[str, bytes]) -> str:
    """Write name, size and SHA-256 of every file."""
    rows = [
        {"file": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in sorted(files.items())
    ]
    return json.dumps({"files": rows}, indent=2) + "\n"
