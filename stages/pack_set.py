"""Stage pack_set: pack an evaluation set, as the stage pack does: `python -m stages.pack_set <source>`.

Its images lie apart from those that mixtures choose from, so that a further set leaves every trained model as it is.
"""

from domix.project.common import ARTIFACTS, SETS, run
from domix.settings.params import Params
from stages.pack import pack_source


def main(params: Params, source: str) -> None:
    pack_source(params, source, ARTIFACTS / "raw" / "sets" / source, SETS / source)


if __name__ == "__main__":
    run(main)
