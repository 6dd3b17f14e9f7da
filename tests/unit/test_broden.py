"""The reader of Broden's folders on a small made one: labels of pixels and images, categories, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from domix.analyses.concepts.broden import mask_labels, read_broden
from domix.runtime.errors import DataError
from domix.runtime.kept import Kept

INDEX = """image,split,ih,iw,sh,sw,color,object,scene
a.jpg,train,4,4,2,2,c/a.png,o/a.png;o/b.png,5
b.jpg,val,4,4,2,2,c/b.png,,
c.jpg,train,4,4,2,2,,o/c.png,5;6
d.jpg,val,4,4,2,3,,,
"""
LABELS = """number,name,category,frequency,coverage,syns
0,-,,0,0,
1,red-c,color(9),9,0.5,
2,sky,object(5);color(2),7,0.5,"sky, heaven"
300,door,color(1);object(4),4,0.5,
4,car,object(2),2,0.5,
5,street,scene(2),2,1,
6,room,scene(1),1,1,
"""
CODES = {"color": (1, 2, 300), "object": (2, 300, 4), "scene": (5, 6)}
MASKS = {"c/a.png": [[0, 1], [1, 1]], "c/b.png": [[2, 0], [0, 0]], "o/a.png": [[2, 2], [0, 0]]}
MASKS |= {"o/b.png": [[300, 0], [0, 0]], "o/c.png": [[4, 300], [0, 0]]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    home = tmp_path / "broden1_224"
    for name in ("c", "o"):
        (home / "images" / name).mkdir(parents=True)
    (home / "index.csv").write_text(INDEX)
    (home / "label.csv").write_text(LABELS)
    (home / "category.csv").write_text(
        "name,first,last,count,frequency\ncolor,1,3,3,9\nobject,2,4,3,9\nscene,5,6,2,3\n"
    )
    for category, numbers in CODES.items():
        rows = "".join(f"{code},{number},x,1,1\n" for code, number in enumerate(numbers, 1))
        (home / f"c_{category}.csv").write_text("code,number,name,frequency,coverage\n" + rows)
    for name, labels in MASKS.items():
        write_mask(home / "images" / name, np.array(labels))
    for name in "abcd":
        Image.new("RGB", (4, 4)).save(home / "images" / f"{name}.jpg")
    return home


def write_mask(path: Path, labels: np.ndarray) -> None:
    channels = np.stack([labels % 256, labels // 256, np.full_like(labels, 7)], axis=-1)
    Image.fromarray(channels.astype(np.uint8)).save(path)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def test_labels_of_pixels_and_of_whole_images_are_read(folder: Path) -> None:
    found = read_broden(folder)
    assert found.images == tuple(folder / "images" / f"{name}.jpg" for name in "abcd")
    assert found.split == ("train", "val", "train", "val")
    known = found.concepts
    assert known.names == ("red-c", "sky", "door", "car", "street", "room")
    assert known.categories == ("color", "object", "scene")
    assert [known.categories[place] for place in known.category] == [
        "color",
        "object",
        "object",
        "object",
        "scene",
        "scene",
    ]
    shown = [[1, 1, 1, 0, 1, 0], [0, 1, 0, 0, 0, 0], [0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]]
    assert known.shown.tolist() == np.array(shown, bool).tolist()
    # b.jpg shows the sky among its colours: so somebody looked for objects
    assert known.annotated.tolist() == np.array([[1, 1, 1], [1, 1, 0], [0, 1, 1], [0, 0, 0]], bool).tolist()
    usable = known.usable("category")
    assert usable.names == ("red-c", "sky", "door", "car", "room")  # every image of a scene shows the street
    assert usable.ap(np.arange(4.0)[:, None], "category").shape == (1, 5)


def test_a_mask_holds_red_and_256_times_green(folder: Path) -> None:
    write_mask(folder / "mask.png", np.array([[0, 255], [256, 65_535]]))
    assert mask_labels(folder / "mask.png") == [255, 256, 65_535]


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("index.csv", "o/b.png", "o/z.png", r"images/o/z\.png is missing, which index\.csv names: unpack Broden's"),
        ("index.csv", "c/b.png", "../c/b.png", r"index\.csv names '\.\./c/b\.png', which is no path inside images"),
        ("index.csv", "c/b.png", "/etc/passwd", r"index\.csv names '/etc/passwd', which is no path inside images"),
        ("index.csv", "b.jpg", "z.jpg", r"images/z\.jpg is missing, which index\.csv names"),
        ("index.csv", "5;6", "5;9", r"^c\.jpg of .*index\.csv shows the scene 9, which label\.csv lacks: unpack"),
        ("index.csv", "5;6", "4;6", r"^c\.jpg of .*index\.csv shows the scene 4, which c_scene\.csv lacks"),
        ("index.csv", ",object,", ",objects,", r"index\.csv has no column object, which category\.csv names"),
        ("index.csv", "image,", "picture,", r"index\.csv has no column image: unpack"),
        ("label.csv", "number,", "no,", r"label\.csv has no column number"),
        ("label.csv", "6,room", "six,room", r"label\.csv has the number 'six', which is none"),
        (
            "label.csv",
            "scene(1)",
            "place(1)",
            r"label\.csv has a label of the category 'place\(1\)', which cat",
        ),
        ("c_scene.csv", "code,", "codes,", r"c_scene\.csv has no column code"),
        ("c_scene.csv", "2,6", "2,-6", r"c_scene\.csv has the number '-6', which is none"),
    ],
)
def test_what_is_missing_or_unknown_is_named(folder: Path, name: str, old: str, new: str, said: str) -> None:
    edit(folder / name, old, new)
    with pytest.raises(DataError, match=said):
        read_broden(folder)


@pytest.mark.parametrize("name", ["index.csv", "label.csv", "category.csv", "c_color.csv"])
def test_a_missing_or_empty_table_is_named(folder: Path, name: str) -> None:
    head = (folder / name).read_text().splitlines()[0]
    (folder / name).write_text(head + "\n")
    with pytest.raises(DataError, match=rf"{name} has no rows: unpack Broden's download anew$"):
        read_broden(folder)
    (folder / name).unlink()
    with pytest.raises(DataError, match=rf"{name} .*unpack Broden's download anew$"):
        read_broden(folder)


def test_a_mask_that_is_no_picture_is_named(folder: Path) -> None:
    path = folder / "images" / "o/c.png"
    write_mask(path, np.random.default_rng(0).integers(0, 65_536, (64, 64)))
    whole = path.read_bytes()
    for data, why in ((b"hello", "not an image"), (b"", "empty file"), (whole[: len(whole) // 2], "truncated")):
        path.write_bytes(data)
        with pytest.raises(DataError, match=rf"^the mask .*o/c\.png is no picture \(({why})\): unpack"):
            read_broden(folder)
    with pytest.raises(DataError, match=r"^the mask .*gone\.png cannot be read \(No such file or directory\)"):
        mask_labels(folder / "gone.png")


def test_masks_tell_where_an_image_shows_what(folder: Path) -> None:
    found = read_broden(folder)
    concepts, masks = found.masks(0)
    assert [found.concepts.names[place] for place in concepts] == ["red-c", "sky", "door", "street"]
    assert masks.astype(int).tolist() == [
        [[0, 1], [1, 1]],  # of the colour mask
        [[1, 1], [0, 0]],
        [[1, 0], [0, 0]],  # of the second of two masks
        [[1, 1], [1, 1]],  # a label of the whole image
    ]
    for image in range(4):
        concepts, masks = found.masks(image)
        assert concepts.tolist() == np.flatnonzero(found.concepts.shown[image]).tolist()
        assert masks.shape == (len(concepts), 2, 3 if image == 3 else 2) and masks.dtype == bool
    write_mask(folder / "images/c/a.png", np.array([[0, 1], [2, 0]]))  # the sky, in another category's mask too
    concepts, masks = found.masks(0)
    assert masks[concepts.tolist().index(1)].astype(int).tolist() == [[1, 1], [1, 0]]


def test_masks_that_do_not_fit_are_named(folder: Path) -> None:
    found = read_broden(folder)
    write_mask(folder / "images/c/b.png", np.zeros((3, 2), int))
    with pytest.raises(DataError, match=r"^the mask c/b\.png is 3 x 2 pixels, but index\.csv says 2 x 2: unpack"):
        found.masks(1)
    write_mask(folder / "images/c/b.png", np.full((2, 2), 77))
    with pytest.raises(DataError, match=r"^the mask c/b\.png has the label 77, which label\.csv lacks: unpack"):
        found.masks(1)
    (folder / "images/c/b.png").unlink()
    with pytest.raises(DataError, match=r"c/b\.png is missing, which index\.csv names: unpack"):
        found.masks(1)
    edit(folder / "index.csv", "d.jpg,val,4,4,2,3", "d.jpg,val,4,4,2,x")
    (folder / "images/c/b.png").write_bytes((folder / "images/c/a.png").read_bytes())
    with pytest.raises(DataError, match=r"index\.csv has the number 'x', which is none: unpack"):
        read_broden(folder)


def test_what_images_show_is_kept_until_a_mask_changes(folder: Path, tmp_path: Path) -> None:
    kept = Kept(tmp_path / "kept")
    first, again = read_broden(folder, kept), read_broden(folder, kept)
    for name in ("shown", "annotated"):
        np.testing.assert_array_equal(getattr(first.concepts, name), getattr(read_broden(folder).concepts, name))
        np.testing.assert_array_equal(getattr(again.concepts, name), getattr(first.concepts, name))
    write_mask(folder / "images/o/c.png", np.array([[4, 4, 4], [4, 4, 2], [4, 4, 4]]))
    assert read_broden(folder, kept).concepts.shown[2].tolist() == [False, True, False, True, True, True]
    edit(folder / "index.csv", "c.jpg,train,4,4,2,2,,o/c.png,5;6", "c.jpg,train,4,4,2,2,,o/c.png,5")
    assert read_broden(folder, kept).concepts.shown[2].tolist() == [False, True, False, True, True, False]
