"""Stage fetch_set: bring the files of an evaluation set, as fetch does: `python -m stages.fetch_set <source>`."""

from domix.project.common import ARTIFACTS, run
from domix.settings.params import Params
from stages.fetch import fetch


def main(params: Params, source: str) -> None:
    fetch(params, source, ARTIFACTS / "raw" / "sets" / source)


if __name__ == "__main__":
    run(main)
