"""Check that the evaluation sets asked for are known, before hours are spent on others: `python -m stages.sets`.

The list that it writes also gives DVC a folder of sets to depend on where none is asked for.
"""

from domix.data.sources import get_source
from domix.project.common import SETS, run
from domix.runtime.files import write_json
from domix.settings.params import Params


def main(params: Params) -> None:
    for name in params.embed.sets:
        get_source(name, has_folder=name in params.fetch.paths)
    write_json(SETS / "asked.json", params.embed.sets)


if __name__ == "__main__":
    run(main)
