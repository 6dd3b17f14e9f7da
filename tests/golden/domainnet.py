"""Facts about the study's mixtures of DomainNet, as its released algorithm makes them (cleaned lists)."""

from __future__ import annotations

import pandas as pd

from tools import scale

DOMAINS = ("clipart", "infograph", "painting", "quickdraw", "real", "sketch")
TESTABLE = tuple(domain for domain in DOMAINS if domain != "real")
TEST_CLASSES = (
    *("aircraft carrier", "axe", "banana", "barn", "bed", "candle", "lion", "mountain", "necklace", "penguin"),
    *("pizza", "saxophone", "television", "tractor", "traffic light"),
)

# test domain -> N*, the DomainNet part of its mixtures
SIZE = {"clipart": 153222, "infograph": 155035, "painting": 168656, "quickdraw": 236406, "sketch": 167166}
NATURAL_ONLY = 120906

# (mixture, test domain) -> samples of clipart, infograph, painting, quickdraw, real, sketch
COMPOSITION = {
    ("cg-low", "clipart"): (32316, 0, 0, 0, 120906, 0),
    ("cg-low", "infograph"): (0, 34129, 0, 0, 120906, 0),
    ("cg-low", "painting"): (0, 0, 47750, 0, 120906, 0),
    ("cg-low", "quickdraw"): (0, 0, 0, 115500, 120906, 0),
    ("cg-low", "sketch"): (0, 0, 0, 0, 120906, 46260),
    ("cg-high", "clipart"): (12264, 13659, 18739, 45195, 45136, 18229),
    ("cg-high", "infograph"): (12914, 13138, 18993, 45885, 45775, 18330),
    ("cg-high", "painting"): (14064, 15095, 19783, 49680, 49899, 20135),
    ("cg-high", "quickdraw"): (19755, 21228, 29290, 67320, 70473, 28340),
    ("cg-high", "sketch"): (13904, 14940, 20489, 49335, 49374, 19124),
    ("leave-out-domain", "clipart"): (0, 14848, 20517, 48990, 49060, 19807),
    ("leave-out-domain", "infograph"): (14081, 0, 20791, 50025, 49973, 20165),
    ("leave-out-domain", "painting"): (15905, 17082, 0, 56580, 56556, 22533),
    ("leave-out-domain", "quickdraw"): (27590, 29628, 41058, 0, 98707, 39423),
    ("leave-out-domain", "sketch"): (15676, 16825, 23403, 55545, 55717, 0),
    ("cg-low-all", "clipart"): (33431, 0, 0, 0, 119791, 0),
    ("cg-low-all", "infograph"): (0, 35757, 0, 0, 119278, 0),
    ("cg-low-all", "painting"): (0, 0, 49791, 0, 118865, 0),
    ("cg-low-all", "quickdraw"): (0, 0, 0, 118283, 118123, 0),
    ("cg-low-all", "sketch"): (0, 0, 0, 0, 119342, 47824),
    ("cg-high-all", "clipart"): (12704, 13639, 18805, 44850, 45028, 18196),
    ("cg-high-all", "infograph"): (12859, 13802, 18890, 45540, 45574, 18370),
    ("cg-high-all", "painting"): (13958, 14998, 20575, 49680, 49577, 19868),
    ("cg-high-all", "quickdraw"): (19506, 20958, 29049, 69345, 69571, 27977),
    ("cg-high-all", "sketch"): (13834, 14869, 20493, 48990, 49143, 19837),
}

# shares of the test classes' samples shown after all -> samples of theirs in the test domain
SHARES = ("0.05", "0.1", "0.2", "0.4", "0.6", "0.8")
READMITTED = {
    ("cg-low", "clipart"): (67, 128, 247, 490, 727, 968),
    ("cg-low", "infograph"): (102, 195, 382, 756, 1132, 1503),
    ("cg-low", "painting"): (138, 270, 533, 1057, 1581, 2106),
    ("cg-low", "quickdraw"): (270, 525, 1035, 2055, 3090, 4110),
    ("cg-low", "sketch"): (104, 200, 392, 780, 1166, 1550),
    ("cg-high", "clipart"): (29, 54, 99, 187, 279, 369),
    ("cg-high", "infograph"): (43, 79, 150, 293, 438, 580),
    ("cg-high", "painting"): (62, 118, 226, 447, 664, 886),
    ("cg-high", "quickdraw"): (165, 315, 615, 1215, 1830, 2430),
    ("cg-high", "sketch"): (44, 86, 166, 326, 486, 646),
}

# (letters, test domain) -> pool, N* / pool, samples of the domains in the letters' order
INTERPOLATION = {
    ("qrs", "sketch"): (287916, 0.58061, (70123, 70023, 27020)),
    ("prs", "sketch"): (217582, 0.76829, (38747, 92715, 35704)),
    ("irs", "sketch"): (203189, 0.82271, (29816, 99295, 38055)),
    ("crs", "sketch"): (200691, 0.83295, (28087, 100532, 38547)),
    ("cqrs", "sketch"): (321441, 0.52005, (17609, 62790, 62709, 24058)),
    ("cprs", "sketch"): (251107, 0.66572, (22469, 33445, 80309, 30943)),
    ("cirs", "sketch"): (236714, 0.70619, (23855, 25597, 85211, 32503)),
    ("cpqrs", "sketch"): (371857, 0.44954, (15242, 22623, 54165, 54179, 20957)),
    ("ciprs", "sketch"): (287130, 0.58220, (19678, 21158, 29182, 70222, 26926)),
    ("crs", "clipart"): (201434, 0.76066, (24743, 91781, 36698)),
    ("cqr", "clipart"): (273972, 0.55926, (18240, 67542, 67440)),
    ("cpr", "clipart"): (203638, 0.75242, (24480, 37951, 90791)),
    ("cir", "clipart"): (189245, 0.80965, (26326, 29175, 97721)),
    ("cqrs", "clipart"): (322184, 0.47557, (15541, 57270, 57327, 23084)),
    ("cirs", "clipart"): (237457, 0.64526, (21014, 23429, 77844, 30935)),
    ("cprs", "clipart"): (251850, 0.60839, (19829, 30516, 73380, 29497)),
    ("cpqrs", "clipart"): (372600, 0.41122, (13449, 20878, 49335, 49555, 20005)),
    ("ciprs", "clipart"): (287873, 0.53226, (17362, 19342, 26647, 64177, 25694)),
}

# N* / pool
RATIO = {
    ("cg-high", "clipart"): 0.37497,
    ("cg-high", "infograph"): 0.38005,
    ("cg-high", "painting"): 0.41422,
    ("cg-high", "quickdraw"): 0.58432,
    ("cg-high", "sketch"): 0.40984,
    ("leave-out-domain", "clipart"): 0.40717,
    ("leave-out-domain", "infograph"): 0.41474,
    ("leave-out-domain", "painting"): 0.46925,
    ("leave-out-domain", "quickdraw"): 0.81778,
    ("leave-out-domain", "sketch"): 0.46227,
}


# mixture -> test samples of its validation file, for clipart, infograph, painting, quickdraw, sketch as test domain
VALIDATION = {
    "cg-low": (66112, 66808, 72735, 101541, 72111),
    "cg-high": (176210, 175928, 175587, 174493, 175897),
    "leave-out-domain": (162139, 161161, 154893, 124993, 155827),
    "natural-only": (52041,) * 5,
    "cg-high-all": (176743,) * 5,
}

# The parts of DomainNet that are mixed with CC3M and CC12M: the reference's names, all of the families above.
CC_PARTS = {
    domain: ("lso-real-only", *(f"lso-{letters}-no{domain}classes" for letters in parts))
    for domain, parts in {"clipart": ("cr", "cipqrs", "ipqrs"), "sketch": ("rs", "cipqrs", "cipqr")}.items()
}

# ImageNet: classes that DomainNet's classes stand for, that are left, and whose names hold none of the former's.
MAPPED_CLASSES, LEFT_CLASSES, LEFT_BY_NAME, DOMAINNET_MAPPED = 450, 550, 514, 182
# Seen classes whose own sketches stay, of 330, and the sketches of cg-high that they are taken from.
GRADED_CLASSES = {"fiftyp": 165, "twentyfivep": 82, "thirtyp": 99, "tenp": 33, "fivep": 16, "onep": 3, "one": 1}
OWN_SKETCHES = 19124

# SHA-256 over the rows of mixtures with the base `web` of 1,000 rows, as they were before rows had weights.
DIGESTS = {
    ("natural-only", "sketch"): "a91620477371999227821863688deab403392dfb0564648044c3088326ca5254",
    ("cg-high", "sketch"): "4c5a3fd7b782c75647315ef92146bb7995aacb3890714b543af7e91a92ea2f1a",
    ("leave-out-domain", "clipart"): "4de2b38549dd8ee43b2556b8e0bd278e7cf55c1ca425266e27e16f9d90c0a2c1",
    ("cg-high+aligned", "quickdraw"): "4f755717b25d2364bbf627d9494d081584983ab256140c24e2c324d017fde69c",
    ("cg-low+0.05", "painting"): "626b315733f6c10208d231ce6107d7d54bd937f151ba744c123c732586e5fc24",
    ("cg-high-all", "infograph"): "b7f706c7395f7c1d8b92ee13acf558bddaf1009928821bfbf88226ab5e6ef2f3",
}


def index() -> pd.DataFrame:
    """Return DomainNet's 586,575 rows without names of pictures, in the order of the split lists."""
    return scale.domainnet()
