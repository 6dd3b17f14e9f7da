"""Parts of sources: any tree, any captions, any division, any process."""

from __future__ import annotations

import json
import multiprocessing
import string
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domix.data.sources.contract import RawSample
from domix.data.sources.corpus import Corpus
from domix.data.sources.folder import Tree
from domix.data.sources.image_folders import Cell, make_keys, make_parts
from domix.data.sources.imagenet_captions import plain_spaces
from domix.data.sources.registry import get_source
from tests.fixtures import write_zip
from tests.objectnet import make_objectnet
from tests.source_trees import WNIDS, check_source, image, make_tar, make_tree, read, read_part, tar_bytes

words = st.text(string.ascii_lowercase + string.digits + "_- .é", min_size=1, max_size=6).filter(
    lambda word: not word.startswith(".") and word.strip(" .") == word
)
files = st.tuples(words, st.sampled_from([".jpg", ".png", ".JPEG"])).map("".join)
trees = st.sets(
    st.tuples(st.sampled_from(["photo", "line"]), st.sampled_from(["axe", "sea bear", "t-shirt"]), files),
    min_size=1,
    max_size=12,
)
few = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@few
@given(paths=trees)
def test_any_tree_of_images(tmp_path_factory, paths):
    root = tmp_path_factory.mktemp("tree")
    for path in paths:
        target = root.joinpath(*path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes("/".join(path).encode())
    found = check_source(Tree(), root)
    assert sorted(s.data for s in found) == sorted("/".join(path).encode() for path in paths)


@few
@given(old=trees, new=trees)
def test_more_images_change_no_key_but_of_those_that_hardly_differ_and_no_split(tmp_path_factory, old, new):
    root = tmp_path_factory.mktemp("tree")
    stages = []
    for paths in (old, old | new):
        for path in paths:
            root.joinpath(*path).parent.mkdir(parents=True, exist_ok=True)
            root.joinpath(*path).write_bytes("/".join(path).encode())
        stages.append({s.data: s for s in read(Tree(), root)})
    before, after = stages
    alike = [make_keys("", [path[2]])[0].casefold() for path in old | new]
    for data, sample in before.items():
        assert after[data].split == sample.split
        if alike.count(make_keys("", [data.decode().split("/")[2]])[0].casefold()) == 1:
            assert after[data].key == sample.key


@given(sizes=st.lists(st.integers(0, 7), max_size=8), size=st.integers(1, 9))
def test_parts_are_full_but_for_the_last_and_joined_are_all(sizes, size):
    cells = []
    for number, count in enumerate(sizes):
        names = tuple(f"{number}-{i}.png" for i in range(count))
        cells.append(Cell(f"d{number}", "p", "d", "c", number, "train", names, make_keys("p", names), names))
    parts = make_parts(None, cells, size)
    rows = [
        [(c.directory, *row) for c in part.cells for row in zip(c.names, c.keys, c.texts, strict=True)]
        for part in parts
    ]
    assert [row for part in rows for row in part] == [
        (c.directory, *row) for c in cells for row in zip(c.names, c.keys, c.texts, strict=True)
    ]
    assert all(len(part) == size for part in rows[:-1])
    assert all(rows)


captions = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@few
@given(texts=st.lists(captions.filter(str.strip), min_size=1, max_size=5), as_json=st.booleans())
def test_captions_of_a_corpus_survive(tmp_path_factory, texts, as_json):
    root, members = tmp_path_factory.mktemp("corpus"), {}
    for number, text in enumerate(texts):
        members[f"{number:05d}.jpg"] = b"x"
        kind, data = ("json", json.dumps({"caption": text})) if as_json else ("txt", text)
        members[f"{number:05d}.{kind}"] = data.encode()
    make_tar(root / "00000.tar", members)
    marked = texts if as_json else [text.removeprefix("\ufeff") for text in texts]  # a mark is none of the text
    assert [s.text for s in read(Corpus("cc3m"), root)] == [text for text in marked if text.strip()]


def slow_plain_spaces(text: str) -> str:
    """Do as `plain_spaces`, character by character."""
    text = "".join(c for c in text if c not in "\u200b\u2060\ufeff")
    out, last, at = "", "", 0
    while at < len(text):
        long = text[at : at + 2] == "\r\n"
        kind = "end" if long or text[at] in "\n\v" else "space" if text[at].isspace() else ""
        if not kind:
            out += text[at]
        elif kind != last:
            out += " "
        last, at = kind, at + (2 if long else 1)
    return out.strip()


@given(st.text(st.sampled_from("ab \t\n\r\v\f\x1c\x85\xa0\u2028\u3000\u200b\ufeff\u2060")))
def test_white_space_is_that_of_the_slow_way(text):
    assert plain_spaces(text) == slow_plain_spaces(text)


def one_of_each(root: Path) -> list[tuple[str, Path]]:
    """Return a tiny root for every source of this package's own making."""
    names = {wnid: f"{wnid}_1.JPEG" for wnid in WNIDS}
    make_tree(root / "folder", "photo/axe/1.png", "line/axe/2.png")
    inner = {f"{wnid}.tar": tar_bytes({name: image(name)}) for wnid, name in names.items()}
    make_tar(root / "imagenet/ILSVRC2012_img_train.tar", inner)
    make_tar(root / "imagenet-captions/imagenet/ILSVRC2012_img_train.tar", inner)
    rows = [{"filename": name, "wnid": wnid, "title": name} for wnid, name in names.items()]
    (root / "imagenet-captions/imagenet_captions.json").write_text(json.dumps(rows))
    (root / "imagenet-sketch").mkdir()
    sketches = {f"sketch/{wnid}/{name}": image(name) for wnid, name in names.items()}
    write_zip(root / "imagenet-sketch/ImageNet-Sketch.zip", sketches)
    make_tar(root / "imagenet-v2/imagenetv2-matched-frequency.tar", {"a/10/a.jpeg": b"x", "a/2/a.jpeg": b"y"})
    make_tree(root / "imagenet-r", "imagenet-r/n01443537/a.jpg")
    make_objectnet(root / "objectnet")
    make_tar(root / "cc3m/00000.tar", {"0.jpg": image("0.jpg"), "0.txt": b"x"})
    make_tree(root / "cc12m", "a.jpg")
    (root / "cc12m/cc12m.tsv").write_text("filepath\ttitle\na.jpg\tx\n")
    return [(path.name, path) for path in sorted(root.iterdir())]


def test_parts_are_read_alike_in_another_process(tmp_path):
    found = one_of_each(tmp_path)
    assert len(found) == 9
    parts = [part for name, root in found for part in get_source(name).parts(root, size=2, poses=1)]
    here: list[list[RawSample]] = [read_part(part) for part in parts]
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert list(pool.map(read_part, parts)) == here
