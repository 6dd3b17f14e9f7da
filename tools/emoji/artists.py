"""Who drew the bundled set: one artist a row, with the package that carries the drawings.

A domain is two artists, because a cell with a single drawing gives neither a test worth the name nor a training set
with any variety within it: quickdraw has the glyphs of a font beside OpenMoji's drawings for that reason. Packages are
the tarballs that `npm pack name@version` writes, known by their SHA-256.
"""

from __future__ import annotations

from dataclasses import dataclass

DOMAINS = ("clipart", "infograph", "painting", "quickdraw", "real", "sketch")


@dataclass(frozen=True)
class Artist:
    """One style of drawing.

    Attributes:
        name: file name of its drawings in the set.
        domain: the domain of DomainNet it stands for.
        kind: how its drawings lie in the package: iconify, openmoji or font.
        package, version, sha256: the npm package and the digest of its tarball.
        author, licence, project: whom to credit, the SPDX licence of the drawings, and the project's page.
    """

    name: str
    domain: str
    kind: str
    package: str
    version: str
    sha256: str
    author: str
    licence: str
    project: str

    @property
    def tarball(self) -> str:
        """Return the file name that `npm pack` gives the package."""
        return f"{self.package.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


def _iconify(name: str, domain: str, version: str, sha256: str, author: str, licence: str, project: str) -> Artist:
    return Artist(name, domain, "iconify", f"@iconify-json/{name}", version, sha256, author, licence, project)


NOTO, FLUENT = "https://github.com/googlefonts/noto-emoji", "https://github.com/microsoft/fluentui-emoji"
EMOJITWO = "https://github.com/EmojiTwo/emojitwo"

# fmt: off
ARTISTS = (
    _iconify("twemoji", "clipart", "1.2.5", "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7",
             "Twitter, Inc and other contributors", "CC-BY-4.0", "https://github.com/jdecked/twemoji"),
    _iconify("emojione", "clipart", "1.2.3", "26a14f44284407e8bcde91799388dca2bfd91dbcd55a97f425524a1c5b73610e",
             "Emoji One (EmojiTwo)", "CC-BY-4.0", EMOJITWO),
    _iconify("fluent-emoji-flat", "infograph", "1.2.6",
             "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
             "Microsoft Corporation", "MIT", FLUENT),
    _iconify("fxemoji", "infograph", "1.2.2", "f3e72b3c59d05e1db03b7e308d55c0d05bd7ba3f625a90da1b79313c12858eef",
             "Mozilla", "Apache-2.0", "https://github.com/mozilla/fxemoji"),
    _iconify("fluent-emoji", "painting", "1.2.7", "8044210dbf11e016d4de85f15d01a243423bd832457e7e2491df1b751c0e272b",
             "Microsoft Corporation", "MIT", FLUENT),
    _iconify("emojione-v1", "painting", "1.2.3", "6641d59d48a42823fdc2b84e7427e9f302944eb98d2c7d94d6e67c139e7b37b3",
             "Emoji One", "CC-BY-SA-4.0", "https://github.com/joypixels/emojione-legacy"),
    Artist("openmoji", "quickdraw", "openmoji", "openmoji", "17.0.0",
           "55ee7d13485dec86e9f38c1f3a645a13382d33ff97c0cd845ee824b0aef45e68",
           "OpenMoji: Benedikt Gross, Daniel Utz and the OpenMoji contributors", "CC-BY-SA-4.0", "https://openmoji.org"),
    Artist("noto-emoji", "quickdraw", "font", "@expo-google-fonts/noto-emoji", "0.4.7",
           "6a25fd5a4da5bb34bbc2d300531bbf32de86afd866e119314d7e358f61a6104d",
           "Google LLC (the font Noto Emoji)", "OFL-1.1", NOTO),
    _iconify("noto", "real", "1.2.9", "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
             "Google Inc", "Apache-2.0", NOTO),
    _iconify("noto-v1", "real", "1.2.5", "2bf62c26c2c2884aa99e90aec942cdaee17a5921f05690694f4978ad4b017c37",
             "Google Inc", "Apache-2.0", NOTO),
    _iconify("fluent-emoji-high-contrast", "sketch", "1.2.6",
             "0b92d48c90d2200bd499e3cdd09a127ca6a8c8ddefd34c35eb5a1e4994012ae0",
             "Microsoft Corporation", "MIT", FLUENT),
    _iconify("emojione-monotone", "sketch", "1.2.1",
             "40b90004bafb406b59266155ef9b7e1dd67bf2947fc8db8d07388776f4d0d04e",
             "Emoji One (EmojiTwo)", "CC-BY-4.0", EMOJITWO),
)
# fmt: on
