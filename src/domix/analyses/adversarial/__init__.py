"""Foreign images changed so little that hardly anyone sees it, until a model takes them for known ones.

On plain modules and tensors: `perturbation` makes the images and measures how far they were changed.

May import: activations, analyses, data.classes, data.loading, data.store, embed, encoders, evaluate, figures, model,
ood, runtime, study.
Must not import: open_clip, lightning, mlflow, dvc, matplotlib.
"""

from domix.analyses.adversarial.settings import Settings
from domix.analyses.contract import Analysis
from domix.runtime.tables import Column, TableSchema

VARIANT = Column("variant", "str", "smooth or patchy: with or without a weight on the perturbation's roughness")
PAIR = Column("pair", "int64", "number of the pair, from 0")
BANK = Column(
    "bank", "str", "training images compared with: all that were drawn, or those that are no target (without)"
)


def _side(side: str, what: str) -> tuple[Column, ...]:
    return (
        Column(f"{side}_set", "str", f"packed source of {what}"),
        Column(f"{side}_row", "int64", "its row in the index"),
        Column(f"{side}_domain", "str", "its domain"),
        Column(f"{side}_class", "str", "its class"),
    )


ANALYSIS = Analysis(
    name="adversarial",
    package=__name__,
    Settings=Settings,
    needs="encoder",
    tables={
        "pairs": TableSchema(
            "pairs",
            (
                *(VARIANT, PAIR, *_side("source", "the foreign image"), *_side("target", "the training image")),
                Column("file", "str", "name of the changed image's file"),
                Column("l2", "float64", "L2 norm of the change, pixels going from 0 to 1"),
                Column("linf", "float64", "largest change of a pixel"),
                Column("psnr", "float64", "peak signal to noise ratio in dB; infinite: no pixel has changed"),
                Column("cosine_before", "float64", "cosine of the embeddings of the foreign and the training image"),
                Column("cosine_after", "float64", "that of the changed and the training image"),
                Column("score_before", "float64", "cosine of the foreign image with the nearest of all in the bank"),
                Column("score_after", "float64", "that of the changed image"),
                Column("score_before_without", "float64", "as score_before, of those in the bank that are no target"),
                Column("score_after_without", "float64", "as score_after, likewise"),
            ),
            "the pairs of each variant: how far images were changed, and what came of it",
        ),
        "detection": TableSchema(
            "detection",
            (
                *(VARIANT, BANK),
                Column(
                    "images",
                    "str",
                    "foreign images: original, adversarial, or the difference, adversarial less original",
                ),
                Column("auroc", "float64", "chance that a known test image scores higher than a foreign one"),
                Column("low", "float64", "lower end of its confidence interval"),
                Column("high", "float64", "upper end"),
                Column("n_known", "int64", "known test images"),
                Column("n_foreign", "int64", "foreign images"),
            ),
            "how well known and foreign images are told apart by their nearest training image",
        ),
        "examples": TableSchema(
            "examples",
            (
                PAIR,
                Column("image", "str", "source, target, or the variant of the changed one"),
                Column("name", "str", "domain and class of the original"),
                Column("png", "str", "the image as a PNG file, in base64"),
            ),
            "the images of a few pairs, for the report",
        ),
    },
    reads_sets=True,
)
