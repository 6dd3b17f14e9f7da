"""Names of files on disks and in archives of unknown origin: which are left out, which are refused, which are one."""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath

# What macOS, Windows, network storage and notebooks leave in folders and archives of their own accord, in lower case;
# whatever begins with a dot (.DS_Store, ._name, .ipynb_checkpoints, .Trashes) is left out besides.
LEFT_BEHIND = frozenset(
    {
        "__macosx",
        "icon\r",
        "network trash folder",
        "temporary items",
        "thumbs.db",
        "ehthumbs.db",
        "ehthumbs_vista.db",
        "desktop.ini",
        "$recycle.bin",
        "recycler",
        "recycled",
        "system volume information",
        "@eadir",
        "@tmp",
        "#recycle",
        "#snapshot",
        "@recycle",
        "@recently-snapshot",
        "lost+found",
        "lost.dir",
        "__pycache__",
    }
)
_HIDDEN = re.compile(r"\.[^.]")
_DRIVE = re.compile(r"[A-Za-z]:")


def left_behind(path: str) -> bool:
    """Tell whether a relative path names what a system left behind, or lies in it: hidden, or one of LEFT_BEHIND."""
    return any(part.casefold() in LEFT_BEHIND or _HIDDEN.match(part) for part in path.split("/"))


def improper(name: str) -> bool:
    """Tell whether a name holds what none should: control characters, or bytes that are no text.

    All else is legal, Unicode's spaces and joiners included.
    """
    return not name.isprintable() and any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name)


def unsafe_name(name: str) -> str | None:
    """Say what is wrong with a relative path from an archive or manifest; None if nothing is."""
    path = PurePosixPath(name)
    if not path.parts or improper(name):
        return "is no file name"
    if path.is_absolute() or "\\" in name or _DRIVE.match(name):
        return "is not a relative path with forward slashes"
    if ".." in path.parts:
        return "leads out of its folder"
    return None


def nfc(name: str) -> str:
    """Return a name in the one form in which names are compared: macOS writes the same one in another (NFD)."""
    return unicodedata.normalize("NFC", name)


def folded(name: str) -> str:
    """Return what two names share that a file system might take for one."""
    return name.lower() if name.isascii() else nfc(name).casefold()
