"""Turn the tables of the study into metrics, plots and the page that a reader opens: `python -m stages.report`."""

from pathlib import Path
from typing import Any

from domix.config import Params
from domix.data.shards import ShardReader
from domix.report import page, plots, tables
from domix.report.study import Study, load_study
from domix.runtime.files import atomic_folder, sha256_file, write_json, write_text
from domix.runtime.tables import read_table
from stages.common import ARTIFACTS, provenance, run, run_names, stage_times

METRICS = Path("metrics")


def main(params: Params) -> None:
    study = load_study(ARTIFACTS, params.mixtures, params.seeds, params.evaluate.confidence)
    shards = ARTIFACTS / "shards" / params.sources[0]
    reader = ShardReader(shards, read_table(shards / "index.parquet"))
    origin = page.Provenance(made=provenance(), times=stage_times(), digests=digests(params, study))
    numbers = tables.results(study)
    with atomic_folder(ARTIFACTS / "report") as folder:
        plots.write(study, folder / "plots")
        write_text(folder / "index.html", page.render(study, params, origin, reader.read))
    write_json(METRICS / "results.json", numbers)


def digests(params: Params, study: Study) -> dict[str, Any]:
    """Return what identifies the data, the mixtures and the models: SHA-256 by name."""
    indices = [ARTIFACTS / "shards" / source / "index.parquet" for source in params.sources]
    models = [ARTIFACTS / "models" / "clip" / name / "model.safetensors" for _, _, name in run_names(params)]
    mixtures = {f"mixture {m['name']} ({m['alias']})": m["digest"] for m in study.summary["mixtures"]}
    files = {path.as_posix(): sha256_file(path) for path in (*indices, *models)}
    return files | mixtures


if __name__ == "__main__":
    run(main)
