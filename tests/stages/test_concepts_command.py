"""`domix concepts`: the tables of one model on a folder of Broden's layout, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score

from domix.analyses.concepts.broden import read_broden
from domix.cli.models import concepts as command
from domix.cli.models.concepts import Asked
from domix.embed.passes import ComputeContext
from domix.embed.run_model import RunModel
from domix.model.checkpoint import save_weights
from domix.model.classifier import build as build_classifier
from domix.model.clip import build
from domix.project.common import load_params
from domix.runtime.errors import DataError
from domix.runtime.files import write_json
from domix.settings.params import Params
from domix.signature.dissection import concept_iou, detectors
from tests.commands import domix
from tests.tiny import CONFIG, WORDS, write_project
from tests.tiny_supervised import NORMLESS, RESNET

MODEL = "artifacts/models/clip/tiny-s0"
COUNT, SIDE = 40, 16  # images, and pixels of a mask's side


def write_broden(home: Path) -> Path:
    """Write noise of which every third image has a black patch (`patch`), every other one a scene, all a colour."""
    folder, rng = home / "broden", np.random.default_rng(0)
    for name in ("images/c", "images/o"):
        (folder / name).mkdir(parents=True)
    lines = ["image,split,ih,iw,sh,sw,color,object,scene"]
    for n in range(COUNT):
        pixels = rng.integers(100, 255, (48, 64, 3), dtype=np.uint8)
        labels = np.where(rng.random((SIDE, SIDE)) < 0.3, 1, 0)
        marks = np.zeros((SIDE, SIDE), int)
        if n % 3 == 0:
            pixels[:24, :32], marks[: SIDE // 2, : SIDE // 2] = 0, 300
        Image.fromarray(pixels).save(folder / f"images/{n:03d}.png")
        for kind, values in (("c", labels), ("o", marks)):
            channels = np.stack([values % 256, values // 256, values * 0], axis=-1).astype(np.uint8)
            Image.fromarray(channels).save(folder / f"images/{kind}/{n:03d}.png")
        scene = 5 + n % 2 if n < 30 else ""
        lines.append(f"{n:03d}.png,val,48,64,{SIDE},{SIDE},c/{n:03d}.png,o/{n:03d}.png,{scene}")
    (folder / "index.csv").write_text("\n".join(lines) + "\n")
    (folder / "label.csv").write_text(
        "number,name,category\n1,red,color(40)\n300,patch,object(14)\n5,street,scene(15)\n6,room,scene(15)\n"
    )
    (folder / "category.csv").write_text("name\ncolor\nobject\nscene\n")
    for name, numbers in (("color", [1]), ("object", [300]), ("scene", [5, 6])):
        rows = "".join(f"{code},{number}\n" for code, number in enumerate(numbers, 1))
        (folder / f"c_{name}.csv").write_text("code,number\n" + rows)
    return folder


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    write_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    save_weights(build(CONFIG, seed=0), Path(MODEL, "model.safetensors"))
    write_json(Path(MODEL, "config.json"), {"model": CONFIG})
    write_broden(tmp_path)
    return load_params()


def forward(site: str, *, whole: bool) -> np.ndarray:
    """Return the activations of all images at a site; `whole`: of the image pressed into the square, as maps."""
    encoder = RunModel(Path(MODEL), "clip", {}, ComputeContext(Path("unused"), 8)).encoder
    preprocess = replace(encoder.preprocess, resize_mode="squash") if whole else encoder.preprocess
    found = []
    for n in range(COUNT):
        cut = preprocess.cut(Image.open(f"broden/images/{n:03d}.png").convert("RGB"))
        batch = torch.from_numpy(np.array(cut)).permute(2, 0, 1)[None]
        found.append(encoder.forward(batch, [site], pooled=not whole).sites[site].numpy())
    return np.concatenate(found).astype(np.float16)


def test_tables_of_a_model_are_those_of_its_activations(params: Params, capsys: pytest.CaptureFixture[str]) -> None:
    asked = Asked(Path("broden"), sites=("layer2.0", "attnpool"), threshold=0.5, iou=False, out=Path("tables"))
    command.main(params, MODEL, asked)
    table = pd.read_csv("tables/concepts.csv").set_index(["site", "concept"])
    assert table.loc["layer2.0"].index.tolist() == ["patch", "street", "room"]  # every image has the colour
    for site in ("layer2.0", "attnpool"):
        values = forward(site, whole=False)
        for concept, shown, images in (
            ("patch", np.arange(COUNT) % 3 == 0, COUNT),
            ("room", np.arange(30) % 2 == 1, 30),
        ):
            ap = [average_precision_score(shown, unit) for unit in values[:images].T]
            row = table.loc[(site, concept)]
            assert row["ap"] == pytest.approx(max(ap), rel=1e-3) and (row["shown"], row["images"]) == (
                sum(shown),
                images,
            )
    curve = pd.read_csv("tables/curve.csv")
    assert curve.groupby("site").size().eq(501).all()
    said = capsys.readouterr().out
    first = curve[(curve["site"] == "attnpool") & (curve["threshold"] == 0.5)].iloc[0]
    assert (
        f"attnpool: {first['unique']} of 3 concepts are encoded at 0.5, {first['polysemanticity']:.2f} a unit" in said
    )
    assert not Path("tables/iou.csv").exists()


def test_iou_is_that_of_maps_of_the_whole_image(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(Path("broden"), sites=("layer1.0",), iou=True, out=Path("tables"))
    command.main(params, MODEL, asked)
    found = pd.read_csv("tables/iou.csv")
    broden = read_broden(Path("broden"))
    masks = np.zeros((COUNT, 4, SIDE, SIDE), bool)
    for image in range(COUNT):
        concepts, where = broden.masks(image)
        masks[image, concepts] = where
    known = broden.concepts
    want = concept_iou(
        forward("layer1.0", whole=True).astype(np.float32), masks, category=known.category, annotated=known.annotated
    )
    best = detectors(want)
    np.testing.assert_allclose(found["iou"], best.iou, rtol=0.02, atol=1e-3)
    assert found["unit"].tolist() == list(range(len(want))) and (found["detects"] == (found["iou"] > 0.04)).all()
    assert (found["concept"] == [known.names[at] for at in best.concept]).mean() > 0.9

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("an image is read again")

    monkeypatch.setattr(command, "cut_files", refused)
    command.main(params, MODEL, replace(asked, out=Path("again")))
    pd.testing.assert_frame_equal(pd.read_csv("again/iou.csv"), found)
    monkeypatch.setattr("domix.analyses.concepts.broden.mask_labels", refused)  # nor which concepts it shows
    command.main(params, MODEL, replace(asked, iou=False))
    Image.new("RGB", (48, 64)).save("broden/images/007.png")  # another image: activations are made anew
    with pytest.raises(AssertionError, match="read again"):
        command.main(params, MODEL, asked)


def test_classifiers_are_read_too(params: Params, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path("artifacts/models/supervised/tiny-s0")
    write_json(folder / "config.json", {"encoder": RESNET, "classes": WORDS, "first_class": 0})
    save_weights(build_classifier(RESNET, outputs=len(WORDS), seed=0), folder / "model.safetensors")
    command.main(params, str(folder), Asked(Path("broden"), threshold=0.95))
    assert capsys.readouterr().out.startswith("attnpool: ")


def test_sites_without_maps_have_no_iou(params: Params) -> None:
    with pytest.raises(DataError, match=r"^the site attnpool gives no feature map, which IoU needs: name some of act1"):
        command.main(params, MODEL, Asked(Path("broden"), iou=True))
    with pytest.raises(DataError, match=r"^the model has no site 'layer9': did you mean"):
        command.main(params, MODEL, Asked(Path("broden"), sites=("layer9",)))
    vit = Path("artifacts/models/clip/vit-s0")
    save_weights(build(NORMLESS["clip"], seed=0), vit / "model.safetensors")
    write_json(vit / "config.json", {"model": NORMLESS["clip"]})
    with pytest.raises(DataError, match=r"which IoU needs: this model has none$"):
        command.main(params, str(vit), Asked(Path("broden"), iou=True))


def test_the_command_line_takes_it(params: Params, capsys: pytest.CaptureFixture[str]) -> None:
    domix(params, "concepts", MODEL, "--broden", "broden", "--site", "layer1.0", "--iou", "--out", "tables")
    said = capsys.readouterr().out
    assert "of 3 concepts are encoded at 0.9, " in said and "units detect one of" in said
    assert sorted(path.name for path in Path("tables").iterdir()) == ["concepts.csv", "curve.csv", "iou.csv"]
    with pytest.raises(DataError, match=r"nowhere/index\.csv"):
        domix(params, "concepts", MODEL, "--broden", "nowhere")
