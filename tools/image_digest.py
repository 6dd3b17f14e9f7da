"""Resolve the digest of the image that the Dockerfile is based on, and record it there (`make image-digest`).

A tag can be moved to other contents, a digest cannot. The digest is asked of the registry, through docker or skopeo,
whichever is installed, and written behind the tag in the line `ARG BASE_IMAGE=` of the Dockerfile. Only the standard
library is used: the target needs no environment.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

DOCKERFILE = Path(__file__).resolve().parent.parent / "Dockerfile"
BASE = re.compile(r"^(ARG BASE_IMAGE=)([^@\s]+)(@sha256:[0-9a-f]{64})?$", re.MULTILINE)
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
COMMANDS = {
    "docker": ("buildx", "imagetools", "inspect", "--format", "{{.Manifest.Digest}}", "{tag}"),
    "skopeo": ("inspect", "--no-tags", "--format", "{{.Digest}}", "docker://docker.io/{tag}"),
}


def record(text: str, digest: str) -> str:
    """Return the Dockerfile's text with `digest` behind the base image's tag."""
    return BASE.sub(rf"\g<1>\g<2>@{digest}", text)


def base_tag(text: str) -> str:
    """Return the base image's name and tag, without its digest."""
    found = BASE.search(text)
    if not found:
        raise ValueError("the Dockerfile has no line ARG BASE_IMAGE=<name>:<tag>")
    return found[2]


def resolve(tag: str) -> str:
    """Ask the registry for the digest of `tag`.

    Raises:
        RuntimeError: neither docker nor skopeo is installed, or none could reach the registry.
    """
    tools = [tool for tool in COMMANDS if shutil.which(tool)]
    if not tools:
        raise RuntimeError("install docker or skopeo first: the registry is asked through them")
    said = ""
    for tool in tools:
        command = [tool, *(part.replace("{tag}", tag) for part in COMMANDS[tool])]
        answer = subprocess.run(command, check=False, capture_output=True, text=True)
        digest = DIGEST.search(answer.stdout)
        if answer.returncode == 0 and digest:
            return digest.group()
        said = (answer.stderr.strip().splitlines() or [f"exit code {answer.returncode}"])[-1]
    raise RuntimeError(f"the digest of {tag} could not be resolved ({said}); is there a network?")


def main() -> int:
    """Resolve, record, say so; return the exit code."""
    try:
        text = DOCKERFILE.read_text(encoding="utf-8")
        tag = base_tag(text)
        digest = resolve(tag)
    except (RuntimeError, ValueError) as error:
        print(f"make image-digest: {error}", file=sys.stderr)
        return 1
    DOCKERFILE.write_text(record(text, digest), encoding="utf-8")
    print(f"Dockerfile: {tag} is {digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
