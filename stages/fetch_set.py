"""Stage fetch_set: bring the files of an evaluation set, as fetch does: `python -m stages.fetch_set <source>`."""

from domix.project.common import ARTIFACTS, run
from domix.settings.params import Params
from stages.fetch import fetch


def main(params: Params, name: str) -> None:
    fetch(params, name, ARTIFACTS / "raw" / "sets" / name)


if __name__ == "__main__":
    run(main)
