"""Which images a model takes for foreign: held-out classes, other objects, the same classes in an unseen style.

May import: analyses, data.classes, data.mixtures, embed, evaluate, figures, ood, ood.scores, runs,
runtime, study.
Must not import: torch, open_clip, lightning, mlflow, dvc, matplotlib.
"""

from domix.analyses.contract import KIND, Analysis
from domix.analyses.ood.settings import Settings
from domix.runs import CLIP, SUPERVISED
from domix.runtime.tables import Column, TableSchema

MIXTURE, SEED = Column("mixture", "str", "training mixture of the run"), Column("seed", "int64", "its seed")
CHECKPOINT = Column("checkpoint", "int64", "epochs after which; -1: the last weights")
SCORE = Column("score", "str", "what images are told apart by; the higher, the more like known images")
GROUP = (
    Column(
        "group",
        "str",
        "the images that are told from the known ones: `held_out` (test classes in the test domain), `tested` (test"
        " classes in the natural domain), `near` and `far` (of a set of foreign images), or `seen`: known classes in"
        " the test domain, foreign in style alone",
    ),
    Column("set", "str", "where they are from: the study's source, a set, or `mean` over the sets of the group"),
)
KNOWN = Column(
    "known",
    "str",
    "which images count as known, all of seen classes: `natural`, those of the natural domain, or `full`, those of the"
    " test domain too (the full spectrum)",
)
METRIC = Column("metric", "str", "auroc, fpr95, aupr_id or aupr_ood; shares from 0 to 1")
ENDS = (
    Column("low", "float64", "lower end of the confidence interval; NaN where there is none"),
    Column("high", "float64", "upper end"),
)
SIZES = (Column("n_known", "int64", "known images"), Column("n_ood", "int64", "images of the group"))
ACCURACY = (
    Column(
        "zeroshot",
        "float64",
        "balanced accuracy on the known images, among the seen classes: zero-shot, or of a classifier's own logits",
    ),
    Column(
        "knn", "float64", "accuracy of their weighted neighbours (k 20, temperature 0.02), the image itself left out"
    ),
)

PLOTTED = (
    Column("estimate", "float64", "the value"),
    *(*ENDS, Column("n", "int64", "images"), Column("chance", "float64", "what a score that knows nothing gives")),
)

ANALYSIS = Analysis(
    name="ood",
    package=__name__,
    Settings=Settings,
    needs="embeddings",
    section_settings=("shown",),
    kinds=(CLIP, SUPERVISED),
    joint_tables={
        "metrics": TableSchema(
            "metrics",
            (
                KIND,
                MIXTURE,
                SEED,
                SCORE,
                *GROUP,
                KNOWN,
                METRIC,
                Column("estimate", "float64", "its value"),
                *ENDS,
                *SIZES,
            ),
            "how well each run tells a group of images from the known ones",
        ),
        "differences": TableSchema(
            "differences",
            (
                KIND,
                Column("mixture_a", "str", "one mixture"),
                Column("mixture_b", "str", "one before it in the study's order; each pair stands once"),
                *(SCORE, *GROUP, KNOWN, METRIC),
                Column("difference", "float64", "metric of mixture_a less that of mixture_b, mean over seeds"),
                *(*ENDS, Column("seeds", "int64", "seeds that both have")),
            ),
            "mixtures compared on the same images, in the same resamples",
        ),
        "flags": TableSchema(
            "flags",
            (
                *(KIND, MIXTURE, SEED, SCORE),
                Column("set", "str", "the study's source, or a set of foreign images"),
                Column("domain", "str", "domain of the images"),
                Column("cells", "str", "their classes: seen, test, near or far"),
                Column("trained", "bool", "whether the mixture holds images of this domain and these classes"),
                Column("n", "int64", "images"),
                Column("flagged", "int64", "those that score below the threshold that 95 % of the known images reach"),
                Column("share", "float64", "flagged / n"),
                *ENDS,
            ),
            "how many images of each domain a run takes for foreign; intervals are Clopper and Pearson's",
        ),
        "classes": TableSchema(
            "classes",
            (
                *(KIND, MIXTURE, SEED, SCORE, *GROUP),
                Column("class", "str", "class of the images"),
                Column("auroc", "float64", "AUROC of its images against the known ones of the natural domain"),
                Column("n", "int64", "its images"),
            ),
            "how well each class is told from the known images",
        ),
        "models": TableSchema(
            "models",
            (
                *(KIND, MIXTURE, SEED, CHECKPOINT),
                *(*ACCURACY, SCORE, *GROUP, Column("auroc", "float64", "against known images of the natural domain")),
            ),
            "accuracy on known images beside AUROC, of every run and of its checkpoints where they are embedded",
        ),
        "correlations": TableSchema(
            "correlations",
            (
                KIND,
                Column("accuracy", "str", "zeroshot or knn: table models"),
                *(SCORE, *GROUP),
                Column("r2", "float64", "of AUROC and accuracy over runs and checkpoints"),
                *ENDS,
                Column("slope", "float64", "AUROC gained by a unit of accuracy"),
                Column("n", "int64", "runs and checkpoints"),
            ),
            "whether accuracy on known images tells how well foreign ones are told; no rows of fewer than three models",
        ),
        "options": TableSchema(
            "options",
            (
                *(KIND, MIXTURE, SEED, CHECKPOINT, SCORE),
                Column("options", "str", "its hyper-parameters"),
                Column("chosen", "bool", "whether results are of them; else they were only tried"),
                Column("validation", "str", "foreign images that chose among several; empty: they are fixed"),
                Column("auroc", "float64", "on the images that choose, none of which is reported on; NaN: fixed"),
                *SIZES,
            ),
            "hyper-parameters of every score, and what came of those among which a validation set chose",
        ),
    },
    plots={
        "ood_auroc": TableSchema(
            "ood_auroc",
            (MIXTURE, Column("images", "str", "group and set of the images"), *PLOTTED),
            "AUROC of the score shown against known images of the natural domain, means over seeds",
        ),
        "ood_flags": TableSchema(
            "ood_flags",
            (MIXTURE, Column("images", "str", "domain of the images"), *PLOTTED),
            "share of each domain's images of seen classes that the score shown flags, means over seeds",
        ),
    },
)
