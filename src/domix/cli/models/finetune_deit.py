"""`domix finetune --recipe deit`: fine-tune any encoder under a new head, by DeiT's recipe: docs/fine-tuned.md."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import torch

from domix.cli.detection.sets import shards_of
from domix.cli.models.finetune import GROUP, Asked, is_done, measure, test_set, training_set
from domix.cli.models.ood import open_features
from domix.data.classes.names import class_text
from domix.data.loading.image_cache import digest_of_images
from domix.data.store.index import read_index
from domix.data.store.shards import ShardReader
from domix.embed.evaluation_sets import COLUMNS, EvaluationSet
from domix.embed.feature_model import FeatureModel
from domix.embed.label_spaces import label_space
from domix.encoders.classifiers import load_any_classifier
from domix.evaluate.schemas import BALANCED, POOLED
from domix.finetuning.deit import FineTuning
from domix.finetuning.deit_training import Row, TowerStart, fine_tune
from domix.finetuning.packed import LabelledImages, hold_out
from domix.finetuning.wise_ft import check_labels
from domix.project.embedding import warn_of_copies
from domix.runtime.errors import DataError, ParameterError, passing
from domix.runtime.files import digest_of, write_text
from domix.runtime.tables import as_csv
from domix.settings.params import Params

SHARE = 0.1  # of each class's images, held out to choose the epoch by
ACCURACY = "accuracy.csv"


def main(params: Params, model: str, images: str, out: Path, asked: Asked) -> None:
    """Fine-tune a model into the folder `out`, unless it is there of an equal call, and measure it on the sets.

    Raises:
        ParameterError: there is no such model or set, an option is out of range, or the folder is another's.
        DataError: a set or the model cannot be used so, or there are too few images.
    """
    options = dict(asked.recipe)
    share, validate = options.pop("share", None), options.pop("validate", None)
    names = ("epochs", "cooldown", "warmup_epochs", "batch", "lr", "ema", "frozen")
    with passing(**{name: f"--{name.replace('_', '-')}" for name in names}):
        recipe = replace(FineTuning(), **options)
    with passing(name="--images"):
        shards = shards_of(params, images)
    with passing(name="--test"):
        tests = [test_set(params, name) for name in asked.tests]
    rows, classes = training_set(images, shards)
    if validate is None:
        rows, held = held_out(rows, images, SHARE if share is None else share, seed=asked.seed)
        chosen_on = shards
    elif share is not None:
        raise ParameterError("--share is of a split of the training images, and --validate names a set: leave one out")
    else:
        with passing(name="--validate"):
            chosen_on = shards_of(params, validate)
        held = validation_rows(validate, chosen_on, classes)
        warn_of_copies(chosen_on, shards, params.mixing.near_bits)
    require_apart(held, chosen_on, rows, shards, tests)
    check_labels(torch.tensor(rows["label"].to_numpy()), len(rows), classes)
    opened = open_features(params, model, asked.architecture, "tower", device="cpu")
    digest = digest_of(
        start=opened.about,
        images=digest_of_images(rows),
        labels=[rows["label"].tolist(), held["label"].tolist()],
        validation=digest_of_images(held),
        recipe=asdict(recipe),
        seed=asked.seed,
    )
    if not is_done(out, digest):
        print(f"fine-tuning on {len(rows):,} images of {len(classes):,} classes of {shards.name}")
        print(f"the epoch is chosen on {len(held):,} images of {chosen_on.name}")
        with ExitStack() as stack:
            trained, measured = (
                LabelledImages(some, stack.enter_context(ShardReader(home)))
                for some, home in ((rows, shards), (held, chosen_on))
            )
            found = fine_tune(
                start_of(opened, classes),
                trained,
                measured,
                recipe,
                out=out,
                seed=asked.seed,
                trainer=params.trainer,
                about={
                    "asked": digest,
                    "trained_on": {"images": shards.name, "samples": len(rows)},
                    "chosen_on": {"images": chosen_on.name, "samples": len(held)},
                },
                report=told,
                progress=True,
            )
        if not found.main:  # the others have nothing to tell
            return
        best = found.accuracies[found.epoch - 1]
        print(f"epoch {found.epoch} is kept, whose averaged weights read {100 * best:.1f} % of these images rightly")
    print(f"the fine-tuned model is {out}")
    if tests:
        table = measure(params, out, tests, [(1.0, load_any_classifier(out)[0])]).drop(columns="alpha")
        write_text(out / ACCURACY, as_csv(table))
        shown = table.assign(**{name: (100 * table[name]).map("{:.1f}".format) for name in (BALANCED, POOLED)})
        print(
            f"accuracy in percent ({out / ACCURACY})\n{shown[[*GROUP, 'n', BALANCED, POOLED]].to_string(index=False)}"
        )


def told(row: Row) -> None:
    """Print what an epoch came to."""
    accuracy = f"{100 * row['accuracy']:.1f} % of the validation images right"
    print(f"epoch {row['epoch']}: rate {row['lr']:.2e}, loss {row['loss']:.3f}, {accuracy}", flush=True)


def start_of(opened: FeatureModel, classes: Sequence[str]) -> TowerStart:
    """Return a model's tower, read before its last linear layer, as what a fine-tuning begins with."""
    assert opened.behind is not None, "it was opened for its tower"
    about = {"model": opened.name, "weights_sha256": opened.about["weights"]}
    return TowerStart(opened.behind.tower, classes, opened.encoder.preprocess, opened.built_from, about)


def held_out(rows: pd.DataFrame, name: str, share: float, *, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Divide training images into those that are trained on and those that choose the epoch.

    Raises:
        ParameterError: the share is none.
        DataError: no class has two images.
    """
    if not 0 < share < 1:
        raise ParameterError(f"--share must be above 0 and below 1, not {share}")
    trained, held = hold_out(rows, share, seed=seed)
    if held.empty:
        raise DataError(f"no class of {name} has two images, of which one could choose the epoch: give --validate")
    return trained, held


def validation_rows(name: str, shards: Path, classes: Sequence[str]) -> pd.DataFrame:
    """Return the images of a set that choose the epoch, labelled by the classes that are trained.

    Raises:
        DataError: some have no class, or one that is not trained.
    """
    index = read_index(shards, COLUMNS)
    test = index[index["split"] == "test"]
    rows = (index if test.empty else test).reset_index(drop=True)
    if rows["class"].isna().any():
        raise DataError(f"--validate {name} has images without a class: sort them into <class>/")
    if (space := label_space(shards.name, shards)).answers is not None:
        raise DataError(f"--validate {name} has classes that are several of ImageNet's: name another set")
    if space.classes == list(classes):
        return rows
    labels = {class_text(one): label for label, one in enumerate(classes)}
    if foreign := [str(one) for one in rows["class"].unique() if class_text(one) not in labels]:
        raise DataError(
            f"--validate {name} has images of {foreign[0]}, which is not trained ({len(foreign)} such classes): leave"
            " them out"
        )
    return rows.assign(label=rows["class"].map(class_text).map(labels).astype("int64"))


def require_apart(
    held: pd.DataFrame, chosen_on: Path, rows: pd.DataFrame, shards: Path, tests: Sequence[EvaluationSet]
) -> None:
    """Refuse images that choose the epoch where they are trained on or reported on, too.

    Raises:
        DataError: there are such.
    """
    if chosen_on == shards and held["row"].isin(rows["row"]).any():
        raise DataError(f"--validate {chosen_on.name} names the images that are trained on: name others")
    for what in tests:
        if what.shards == chosen_on and held["row"].isin(what.rows["row"]).any():
            raise DataError(
                f"{what.source} would both choose the epoch and be reported on: name other images with --test or"
                " --validate"
            )
