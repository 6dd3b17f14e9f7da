"""A tiny set in ObjectNet's layout: framed images, and mappings in the forms that the set has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from domix.data.classes.imagenet import imagenet_classes
from domix.runtime.seeds import numpy_generator

CLASSES = {  # directory -> class; those that ImageNet has, too
    "t-shirt": "T-shirt",
    "drying_rack_for_dishes": "Drying rack for plates",
    "alarm_clock": "Alarm clock",
}
LABELS_OF = {"alarm_clock": [409, 530], "drying_rack_for_dishes": [729], "t-shirt": [610]}  # among ImageNet's
OVERLAP = {  # as ObjectNet words it
    "Alarm clock": "analog clock; digital clock",
    "T-shirt": "jersey, T-shirt, tee shirt",
    "Drying rack for plates": "plate rack",
}
OTHERS = {"squeegee": "Squeegee"}  # classes that ImageNet does not have
FRAME = 2  # pixels


def make_objectnet(root: Path, *, names: tuple[str, ...] = ("b1.png", "a0.png")) -> Path:
    """Draw the set: images of 20 x 16 pixels, of which the outer two at each side are red, and none within is."""
    for directory in [*CLASSES, *OTHERS]:
        (root / "images" / directory).mkdir(parents=True)
        for name in names:
            pixels = numpy_generator(0, directory, name).integers(0, 200, size=(16, 20, 3), dtype=np.uint8)
            for side in (pixels[:FRAME], pixels[-FRAME:], pixels[:, :FRAME], pixels[:, -FRAME:]):
                side[:] = (255, 0, 0)
            Image.fromarray(pixels).save(root / "images" / directory / name)
    (root / "images/README.txt").write_text("ObjectNet", encoding="utf-8")
    write_mappings(root / "mappings")
    return root


def write_mappings(folder: Path, *, overlap: Mapping[str, str] = OVERLAP) -> None:
    """Write the four mappings."""
    folder.mkdir(exist_ok=True)
    lines, numbers = mapping_lines()
    trees = {
        "folder_to_objectnet_label.json": CLASSES | OTHERS,
        "objectnet_to_imagenet_1k.json": dict(overlap),
        "pytorch_to_imagenet_2012_id.json": numbers,
    }
    for name, tree in trees.items():
        (folder / name).write_text(json.dumps(tree), encoding="utf-8")
    (folder / "imagenet_to_label_2012_v2").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def mapping_lines() -> tuple[list[str], dict[str, int]]:
    """Return ImageNet's classes in an order that is not the labels', and where each label's line is."""
    texts = [known.text for known in imagenet_classes().values()]
    texts[134] = texts[517] = "crane"  # a bird, and a machine
    texts[610] = "jersey, T-shirt, tee shirt"
    where = numpy_generator(0, "lines of ObjectNet's mapping").permutation(len(texts))
    lines = [""] * len(texts)
    for label, line in enumerate(where):
        lines[line] = texts[label]
    return lines, {str(label): int(line) for label, line in enumerate(where)}
