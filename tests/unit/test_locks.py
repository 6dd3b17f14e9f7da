"""The locks are hashed, free of addresses, and agree with each other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements"
LOCKS = ("dev", "run", "tools")
PIN = re.compile(r"^([a-z0-9.-]+)==(\S+)(?: ; (.+?))? \\$", re.MULTILINE)


def read(name: str) -> str:
    return (REQUIREMENTS / name).read_text(encoding="utf-8")


def pins(lock: str) -> set[tuple[str, str]]:
    """Return a lock's packages with their versions; a package may have several, for several Pythons or systems."""
    return {(name, version) for name, version, _ in PIN.findall(read(f"{lock}.txt"))}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_no_address(lock: str) -> None:
    text = read(f"{lock}.txt")
    assert re.findall(r"://| @ |^-|\.(?:org|com|net|io)\b", text, re.MULTILINE) == []


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_of_a_lock_is_pinned_and_hashed(lock: str) -> None:
    blocks = [block for block in re.split(r"\n(?=\S)", read(f"{lock}.txt")) if block.strip()]
    assert len(blocks) == len(PIN.findall(read(f"{lock}.txt"))) > 1
    assert [block for block in blocks if not re.search(r"\n    --hash=sha256:[0-9a-f]{64}", block)] == []


def test_the_locks_agree() -> None:
    developers = pins("dev")
    assert pins("run") < developers
    names = {name for name, _ in developers}
    assert {(name, version) for name, version in pins("tools") if name in names} <= developers


@pytest.mark.parametrize("lock", LOCKS)
def test_what_is_asked_for_is_locked(lock: str) -> None:
    lines = [line for line in read(f"{lock}.in").splitlines() if line and not line.startswith(("#", "-"))]
    asked = {re.sub(r"[-_.]+", "-", re.split(r"[[=~<>! ;]", line)[0].lower()) for line in lines}  # PEP 503
    assert asked
    assert asked <= {name for name, _ in pins(lock)}


def test_uv_is_in_the_locks() -> None:
    """`uv pip sync` removes what the lock does not list, itself included."""
    for lock in ("dev", "run"):
        assert "uv" in {name for name, _ in pins(lock)}


def test_lightning_is_not_one_of_the_malicious_releases() -> None:
    """Releases 2.6.2 and 2.6.3 stole credentials (GHSA-w37p-236h-pfx3)."""
    versions = {version for name, version in pins("dev") if name in ("lightning", "pytorch-lightning")}
    assert versions
    assert not versions & {"2.6.2", "2.6.3"}
