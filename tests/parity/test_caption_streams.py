"""The reference stream with the reference's articles gives the reference study's caption files to the byte.

The other side is its rule written down once more, sample by sample, on Python's own `random`.
"""

from __future__ import annotations

import random

import numpy as np
import pandas as pd
import pytest

from domix.data.captions.captions import make_captions
from tests.fakes import DOMAINS
from tests.golden import domainnet as golden

TERMS = {
    "clipart": ["clipart", "illustration"],
    "infograph": ["infograph", "informational chart"],
    "painting": ["painting", "art"],
    "quickdraw": ["quickdraw", "doodle"],
    "real": ["photo", "snapshot"],
    "sketch": ["sketch", "drawing"],
}
AN = {"image", "illustration", "infograph", "informational chart"}


def slow_lines(samples: pd.DataFrame, *, seed: int, aligned: bool) -> list[str]:
    """Write the lines of the reference's files, all lists one after another."""
    random.seed(seed)
    lines = []
    for path, label in zip(samples["path"], samples["label"], strict=True):
        domain, directory, _ = path.split("/")
        name = directory.replace("_", " ")
        pattern = random.choice([1, 2, 3, 4, 5, 6])
        stop = "." if random.random() < 0.5 else ""
        generic = ["image", "picture"]
        noun = random.choice(generic if aligned else generic + TERMS.get(domain, [domain.replace("_", " ")]))
        picture = noun if noun == "art" else f"an {noun}" if noun in AN else f"a {noun}"
        caption = {
            1: f"{picture} of a {name}",
            2: f"a {name} {noun}",
            3: f"{picture} depicting a {name}",
            4: f"a {name} depicted in {picture}",
            5: f"{picture} showing a {name}",
            6: f"a {name} is visible in {picture}",
        }[pattern]
        lines.append(f"{path}\t{label}\t{caption}{stop}\n")
    return lines


def slow_sketches(names: list[str], *, seed: int) -> list[str]:
    """Write the reference's captions of ImageNet-Sketch."""
    random.seed(seed)
    captions = []
    for name in names:
        sentences = [f"{name}", f"a {name}", f"the {name}"]
        for noun, article in (("drawing", "a"), ("sketch", "a"), ("image", "an")):
            sentences += [f"{name} {noun}", f"{noun} of a {name}", f"{noun} of the {name}"]
            sentences += [f"a {name} {noun}", f"{article} {noun} of a {name}", f"{article} {noun} of the {name}"]
        sentence = random.choice(sentences)
        captions.append(sentence + "." if random.random() < 0.5 else sentence)
    return captions


def make_lists(domains: tuple[str, ...], size: int, seed: int) -> pd.DataFrame:
    """Make split lists of `size` lines each on average, of DomainNet's classes, as Source.listing gives them."""
    rng = np.random.default_rng(seed)
    names = [name.replace(" ", "_") for name in golden.index()["class"].unique()]
    parts = []
    for domain in domains:
        for split in ("train", "test"):
            labels = np.sort(rng.integers(0, len(names), rng.integers(1, 2 * size)))
            paths = [f"{domain}/{names[label]}/{split}_{number:06d}.jpg" for number, label in enumerate(labels)]
            parts.append(pd.DataFrame({"path": paths, "label": labels, "domain": domain, "split": split}))
    lists = pd.concat(parts, ignore_index=True)
    lists["key"] = lists["path"].str.removesuffix(".jpg")
    lists["class"] = lists["path"].str.split("/").str[1].str.replace("_", " ")
    return lists


def fast_lines(samples: pd.DataFrame, *, seed: int, aligned: bool) -> list[str]:
    captions = make_captions(samples, seed=seed, stream="reference", articles="reference")
    assert captions["key"].tolist() == samples["key"].tolist()
    column = captions["aligned" if aligned else "standard"]
    return [f"{p}\t{n}\t{c}\n" for p, n, c in zip(samples["path"], samples["label"], column, strict=True)]


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("seed", [42, 0, -7, 2**80])
def test_files_are_the_references_to_the_byte(seed, aligned):
    lists = make_lists(DOMAINS, 1500, seed=1)
    assert fast_lines(lists, seed=seed, aligned=aligned) == slow_lines(lists, seed=seed, aligned=aligned)


@pytest.mark.parametrize("block", [1, 2, 7, 100])
def test_small_blocks_of_random_words_give_the_same(block, monkeypatch):
    lists = make_lists((*DOMAINS, "watercolour"), 20, seed=2)
    expected = slow_lines(lists, seed=42, aligned=False)
    monkeypatch.setattr("domix.data.captions.streams.BLOCK", block)
    assert fast_lines(lists, seed=42, aligned=False) == expected


def test_unknown_domains_between_known_ones_take_their_part_of_the_stream():
    lists = make_lists(("clipart", "watercolour", "real", "comic_strip", "sketch"), 800, seed=3)
    mixed = lists.sample(frac=1, random_state=0).reset_index(drop=True)
    for samples in (lists, mixed):
        assert fast_lines(samples, seed=42, aligned=False) == slow_lines(samples, seed=42, aligned=False)


def test_rejected_pictures_take_their_part_of_the_stream():
    lists = make_lists(DOMAINS, 500, seed=4)
    packed = lists["key"].sample(frac=0.97, random_state=0).sort_index()
    captions = make_captions(lists, seed=42, stream="reference", articles="reference", keys=packed)
    texts = [line.rstrip("\n").split("\t")[2] for line in slow_lines(lists, seed=42, aligned=False)]
    assert captions["standard"].tolist() == [texts[number] for number in packed.index]


def test_sketches_of_imagenet_are_the_references():
    names = ["tench", "great white shark", "ox", "The x", "crane (bird)", "jack-o'-lantern"] * 3000
    samples = pd.DataFrame({"key": [f"k{n}" for n in range(len(names))], "domain": "imagenet-sketch", "class": names})
    captions = make_captions(samples, seed=42, stream="reference", articles="reference")
    assert captions["standard"].tolist() == slow_sketches(names, seed=42)
