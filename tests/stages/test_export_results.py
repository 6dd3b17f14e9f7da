"""The command export_results, from made-up embeddings to the reference's files."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from domix.embed.embeddings import load_embeddings
from domix.runtime.errors import DataError, ParameterError
from domix.runtime.files import read_json, write_json
from domix.runtime.settings import replace
from domix.runtime.tables import read_table
from domix.settings.load import load
from domix.settings.params import Params
from stages import evaluate
from tests.commands import domix
from tests.fakes import make_index, write_embeddings
from tests.scored_sets import write_set

ROOT = Path(__file__).resolve().parents[2]
CLASSES = [f"thing_{k}" for k in range(10)]
TESTED = CLASSES[:3]
INDEX = make_index({d: [1] * 10 for d in ("clipart", "real", "sketch")}, 4, classes=CLASSES)
ALIAS = "lso-cip-nosketchclasses"
RUN = Path("artifacts/embeddings/clip/cg-high-s1")


@pytest.fixture
def params(tmp_path, monkeypatch) -> Params:
    monkeypatch.chdir(tmp_path)
    summary = {
        "test_domain": "sketch",
        "natural_domain": "real",
        "domains": ["clipart", "real", "sketch"],
        "classes": CLASSES,
        "test_classes": TESTED,
        "mixtures": [{"name": "cg-high", "standard_name": "cg-high", "alias": ALIAS}],
    }
    write_json(Path("artifacts/mixtures/summary.json"), summary)
    write_embeddings(RUN, INDEX, right=lambda domain, name: 0.5, seed=3)
    for epoch in (0, 2):  # other models' images, seen through this model's prompts
        write_embeddings(Path("other"), INDEX, seed=epoch + 7)
        folder = RUN / "checkpoints" / f"{epoch:03d}"
        folder.mkdir(parents=True)
        np.save(folder / "image.npy", load_embeddings(Path("other")).image_embeddings.astype(np.float16))
        np.save(folder / "text.npy", load_embeddings(Path("other")).text)
    shutil.rmtree("other")
    write_json(RUN / "meta.json", read_json(RUN / "meta.json") | {"epochs": 4})
    loaded = load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    return replace(loaded, mixtures=["cg-high"], seeds=[1], evaluate=replace(loaded.evaluate, bootstrap=100))


def test_numbers_are_those_of_the_evaluations_tables(params) -> None:
    domix(params, "export-results", "cg-high", "1", "out")
    tree, topk = read_json(Path("out/results.json")), read_json(Path("out/results_topk.json"))
    assert tree["steps"] == topk["steps"] == [0, 2, 4]
    assert (tree["domain"], tree["classes"]) == ("sketch", ["thing 0", "thing 1", "thing 2"])
    evaluate.main(params)
    curves = read_table(Path("artifacts/eval/curves.parquet"))

    def series(domain: str, cells: str, metric: str) -> list[float]:
        rows = curves[(curves["domain"] == domain) & (curves["cells"] == cells) & (curves["metric"] == metric)]
        return rows.sort_values("checkpoint")["estimate"].tolist()

    accuracy, top5 = tree["domainnet-val"]["accuracy"], topk["domainnet-val"]
    for domain, cells in (("sketch", "held_out"), ("real", "tested")):
        for group, where in (("ood", cells), ("id", "seen")):
            assert accuracy[f"{domain}-lso-{group}"] == pytest.approx(series(domain, where, "top1"))
            balanced = pytest.approx(series(domain, where, "balanced_top1"))
            assert accuracy[f"{domain}-lso-unweighted-{group}"] == balanced
            balanced = pytest.approx(series(domain, where, "balanced_top5"))
            assert top5["top-5-accuracy"][f"{domain}-lso-unweighted-{group}"] == balanced
            assert top5["f1-score"][f"{domain}-lso-{group}"] == pytest.approx(series(domain, where, "macro_f1"))
    by_class = read_table(Path("artifacts/eval/curves_per_class.parquet"))
    mine = by_class[(by_class["domain"] == "sketch") & (by_class["class"] == "thing_1")].sort_values("checkpoint")
    assert accuracy["sketch-thing 1-ood"] == pytest.approx((mine["correct"] / mine["n"]).tolist())
    assert tree["domainnet-val"]["num-samples"]["sketch-thing 1-ood"] == mine["n"].tolist()
    assert tree["imagenet-val"]["accuracy"]["total"] == [None, None, None]


def test_arrays_are_in_the_index_order(params) -> None:
    domix(params, "export-results", ALIAS, "1", "out")
    labels, ids = np.load("out/domain_labels.npy"), np.load("out/domain_ids.npy")
    said = np.load("out/domain_pred.npy")
    rows = INDEX[(INDEX["split"] == "test") & (INDEX["domain"] != "clipart")]
    assert labels.tolist() == rows["label"].tolist()
    assert ids.tolist() == rows["domain"].map({"real": 1, "sketch": 2}).tolist()
    assert said.shape == (3, len(rows))
    tree = read_json(Path("out/results.json"))["domainnet-val"]["accuracy"]
    held_out = (ids == 2) & (labels < 3)
    assert tree["sketch-lso-ood"] == pytest.approx((said == labels)[:, held_out].mean(axis=1).tolist())
    assert not Path("out/val_pred.npy").exists()


def test_imagenet_is_known_of_every_checkpoint(params) -> None:
    said = {0: [5, 5, 5, 5], 2: [0, 1, 5, 5], 4: [0, 1, 1, 3]}
    scores = {epoch: np.eye(6, dtype=np.float32)[columns] for epoch, columns in said.items()}
    write_set(RUN, "imagenet", np.array([0, 1, 2, 3]), scores.pop(4), checkpoints=scores)
    domix(params, "export-results", "cg-high", "1", "out")
    assert read_json(Path("out/results.json"))["imagenet-val"]["accuracy"]["total"] == [0, 0.5, 0.75]
    assert np.load("out/val_pred.npy").tolist() == list(said.values())
    assert np.load("out/val_labels.npy").tolist() == [0, 1, 2, 3]
    evaluate.main(replace(params, embed=replace(params.embed, sets=["imagenet"], ood={})))
    curves = read_table(Path("artifacts/eval/curves.parquet")).query("domain == 'imagenet' and cells == 'all'")
    top1 = curves[curves["metric"] == "top1"].sort_values("checkpoint")
    assert (top1["checkpoint"].tolist(), top1["estimate"].tolist()) == ([0, 2, 4], [0, 0.5, 0.75])
    assert set(curves["n"]) == {4} and set(curves["n_classes"]) == {4}


def test_classifiers_have_their_accuracies_alone(params) -> None:
    folder, clip = Path("artifacts/embeddings/supervised/cg-high-s1"), load_embeddings(RUN)
    folder.mkdir(parents=True)
    np.save(folder / "scores.npy", clip.image_embeddings @ clip.text.T)
    shutil.copy(RUN / "rows.parquet", folder)
    shutil.copy(RUN / "meta.json", folder)
    domix(params, "export-results", "cg-high", "1", "out", "--kind", "supervised")
    domix(params, "export-results", "cg-high", "1", "clip")
    assert sorted(path.name for path in Path("out").iterdir()) == ["results.json"]
    ours, theirs = (read_json(Path(folder) / "results.json") for folder in ("out", "clip"))
    assert list(ours) == ["steps", "classes", "domain", "domainnet-val"]
    last = {key: series[-1:] for key, series in theirs["domainnet-val"]["accuracy"].items()}
    assert ours["domainnet-val"]["accuracy"] == last


def test_what_cannot_be_exported_is_one_sentence(params) -> None:
    with pytest.raises(ParameterError, match="no mixture 'cg-hihg': it has cg-high"):
        domix(params, "export-results", "cg-hihg", "1", "out")
    with pytest.raises(DataError, match=r"cg-high-s2 is missing"):
        domix(params, "export-results", "cg-high", "2", "out")
    summary = read_json(Path("artifacts/mixtures/summary.json"))
    write_json(Path("artifacts/mixtures/summary.json"), summary | {"classes": CLASSES[::-1]})
    with pytest.raises(DataError, match=r"other classes than the study"):
        domix(params, "export-results", "cg-high", "1", "out")
    assert not Path("out").exists()


def test_the_commands_need_no_torch() -> None:
    code = "import sys, domix.cli.export_results, domix.cli.models.effective; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
