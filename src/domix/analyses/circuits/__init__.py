"""Which channels carry a class in each domain, how they hang together, and how alike these circuits are.

On plain modules and arrays: `attribution` scores nodes and edges, `graphs` builds and compares circuits,
`faithfulness` ablates.

May import: analyses, activations, embed, encoders, figures, runtime, study.
Must not import: open_clip, lightning, mlflow, dvc, matplotlib.
"""

from domix.analyses.circuits.settings import Settings
from domix.analyses.contract import Analysis
from domix.runtime.tables import Column, TableSchema

HELD_OUT, OWN = "held out", "own"  # by whose choice of channels an image is judged
DOMAIN = Column("domain", "str", "domain of the cell")
CLASS = Column("class", "str", "class of the cell")
SITE = (
    Column("site", "str", "place in the image tower"),
    Column("depth", "int64", "its place among the sites, from 0"),
)
PAIR = (Column("domain_a", "str", "one domain"), Column("domain_b", "str", "the other"))
MIXTURE = Column("mixture", "str", "of the runs")
MEASURE = Column(
    "measure", "str", "jaccard (of the edges), wl1, wl2 or wl3 (Weisfeiler-Lehman kernel of as many rounds)"
)

ANALYSIS = Analysis(
    name="circuits",
    package=__name__,
    Settings=Settings,
    needs="encoder",
    tables={
        "cells": TableSchema(
            "cells",
            (DOMAIN, CLASS, Column("images", "int64", "images of which the circuit is made; 0: it has none")),
            "the cells that were asked for",
        ),
        "nodes": TableSchema(
            "nodes",
            (
                *(DOMAIN, CLASS, *SITE),
                Column("channel", "int64", "number of the channel"),
                Column(
                    "effect", "float64", "on the cosine with the class's text if it is taken away: below 0 it supports"
                ),
                Column(
                    "image",
                    "int64",
                    "row in the source's index of the image, of the domain's drawn, that activates it most; -1: none",
                ),
            ),
            "the channels of each circuit",
        ),
        "edges": TableSchema(
            "edges",
            (
                *(DOMAIN, CLASS, *SITE),
                Column("channel", "int64", "channel to which the edge leads"),
                Column("upstream", "int64", "channel of the site before from which it comes"),
                Column("weight", "float64", "share of the change of the channel, were the site before taken away"),
            ),
            "the edges of each circuit",
        ),
        "node_similarity": TableSchema(
            "node_similarity",
            (CLASS, *SITE, *PAIR, Column("value", "float64", "Jaccard index of the two circuits' channels")),
            "likeness of a class's circuits in two domains at a site",
        ),
        "similarity": TableSchema(
            "similarity",
            (CLASS, MEASURE, *PAIR, Column("value", "float64", "likeness, in 0..1")),
            "likeness of a class's circuits in two domains",
        ),
        "faithfulness": TableSchema(
            "faithfulness",
            (
                DOMAIN,
                Column(
                    "judged",
                    "str",
                    "held out: each image by the circuit of its cell's other images; own: only images of their cells",
                ),
                Column("kept", "str", "channels left alone: all, circuit, random (as many), not circuit, not random"),
                Column("by", "str", "what the others become: zero, or their mean over all images drawn"),
                Column("accuracy", "float64", "share of the images given their own class, of all classes"),
                Column("cosine", "float64", "mean cosine with the text of their class"),
                Column("n", "int64", "images"),
            ),
            "what a model still knows when parts of it are taken away",
        ),
    },
    plots={
        "node_similarity": TableSchema(
            "node_similarity",
            (
                MIXTURE,
                Column("layer", "str", "place in the image tower"),
                Column("depth", "int64", "its place, from 0"),
                Column("value", "float64", "mean Jaccard index"),
                Column("kernel", "str", "always jaccard"),
                Column("pairs", "str", "pairs with the test domain, or the others"),
            ),
            "mean likeness of the circuits' channels over the test classes",
        ),
        "circuit_similarity": TableSchema(
            "circuit_similarity",
            (MIXTURE, *PAIR, Column("likeness", "float64", "mean Jaccard index of the edges")),
            "mean likeness of circuits over the test classes, every ordered pair of domains",
        ),
    },
)
