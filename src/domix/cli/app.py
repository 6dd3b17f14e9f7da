"""The commands of `domix`, and how one is run. Each imports what it does when it is called: help is there at once.

Exit codes are those of stages: 0 done, 2 something the user can mend, 75 cut short.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from domix.cli import options
from domix.cli.bench import WHAT as BENCHES
from domix.cli.model_commands import concepts, finetune, zoo
from domix.cli.options import AnyModel, Architecture, Domains, Mixture, names, numbers, params_of
from domix.project.common import ARTIFACTS, reporting
from domix.project.threads import spin_briefly
from domix.runtime.errors import ParameterError

INTERRUPTED = 130  # what typer makes of Ctrl-C

app = typer.Typer(
    name="domix",
    help="Controlled domain mixtures for CLIP. `domix repro` runs the pipeline; run all in its repository.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line, and exit."""
    spin_briefly()
    name = next((word for word in sys.argv[1:] if not word.startswith("-")), "domix")
    with reporting(name):
        try:
            code = app(sys.argv[1:] or ["--help"], standalone_mode=False, prog_name="domix")
        except typer.TyperException as error:
            said = error.format_message() if hasattr(error, "format_message") else str(error)
            raise ParameterError(f"{' '.join(said.split()).rstrip('.')} (domix --help tells more)") from error
        if code == INTERRUPTED:
            raise KeyboardInterrupt
    sys.exit(code if isinstance(code, int) else 0)


@app.command()
def export(
    context: typer.Context,
    mixture: Mixture,
    format: Annotated[
        Literal["tsv", "webdataset", "parquet"],
        typer.Argument(help="Table of paths, captions and image files; tar shards; data set for Hugging Face."),
    ],
    out: Annotated[Path, typer.Argument(help="New folder.")],
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export in this folder.")] = False,
    dialect: Annotated[
        Literal["csv", "reference"] | None,
        typer.Option(help="tsv: quoted so that pandas and open_clip read every caption (csv), or unquoted."),
    ] = None,
    images: Annotated[
        list[str] | None,
        typer.Option(metavar="SOURCE=FOLDER", help="tsv: name a source's unpacked files there, and write none."),
    ] = None,
    prefix: Annotated[
        str | None, typer.Option(help="tsv: what the paths begin with (default: the new folder's path).")
    ] = None,
    shard_samples: Annotated[
        int | None, typer.Option(help="webdataset: samples a shard, at most (default: 4096).")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="webdataset: of the samples' order (default: 0).")] = None,
) -> None:
    """Export a mixture for another trainer.

    More: docs/export.md.
    """
    params_of(context)
    from domix.cli import export as command

    command.main(
        command.Asked(
            mixture=mixture,
            format=format,
            out=out,
            force=force,
            dialect=dialect,
            images=images or (),
            prefix=prefix,
            shard_samples=shard_samples,
            seed=seed,
        )
    )


@app.command("export-results")
def export_results(
    context: typer.Context,
    mixture: Annotated[str, typer.Argument(help="Name of a mixture, the study's or the reference's.")],
    seed: Annotated[int, typer.Argument(help="Seed of the run.")],
    out: Annotated[Path, typer.Argument(help="Folder; files of these names in it are replaced.")],
    kind: Annotated[Literal["clip", "supervised"], typer.Option(help="The kind of model.")] = "clip",
) -> None:
    """Write a run's results as the reference does.

    More: docs/export.md.
    """
    from domix.cli import export_results as command

    command.main(params_of(context), mixture, seed, out, kind)


@app.command()
def sweep(
    context: typer.Context,
    test_domains: Domains = "",
    mixtures: Annotated[str, typer.Option(help="Mixtures, with commas between (default: params.yaml's).")] = "",
    seeds: Annotated[str, typer.Option(help="Seeds, with commas between (default: params.yaml's).")] = "",
    slots: Annotated[
        int | None, typer.Option(min=1, help="Trainings at a time (default: one a GPU, or for two cores).")
    ] = None,
    per_gpu: Annotated[int, typer.Option(min=1, help="Trainings that share a GPU.")] = 1,
    retries: Annotated[int, typer.Option(min=0, help="Further attempts for a training that died.")] = 2,
    until: Annotated[Literal["mixtures", "train", "report"], typer.Option(help="How far to go.")] = "report",
    name: Annotated[
        str | None, typer.Option(help="The sweep's folder below .cache/sweep; always makes copies.")
    ] = None,
    pull: Annotated[bool, typer.Option("--pull", help="Take what DVC's default remote has of other machines.")] = False,
    write: Annotated[
        tuple[str, str] | None, typer.Option(metavar="slurm|sky FOLDER", help="Write files for a cluster instead.")
    ] = None,
    time: Annotated[str, typer.Option(help="slurm: time limit of a task.")] = "24:00:00",
    cpus: Annotated[int, typer.Option(min=1, help="slurm: cores of each process.")] = 16,
    gpu: Annotated[str, typer.Option(help="sky: the kind of GPU.")] = "H100",
    bucket: Annotated[str, typer.Option(help="sky: the bucket that keeps saved states.")] = "domix-states",
) -> None:
    """Train the runs of studies side by side.

    More: docs/scale-out.md.
    """
    wanted = numbers("--seeds", seeds) if seeds else ()
    from domix.cli import sweep as command
    from domix.cli.sweeps.cluster import Cluster

    asked = command.Asked(
        test_domains=names(test_domains),
        mixtures=names(mixtures),
        seeds=wanted,
        slots=slots,
        per_gpu=per_gpu,
        retries=retries,
        until=until,
        name=name,
        pull=pull,
        write=write,
        cluster=Cluster(time, cpus, gpu, bucket),
    )
    command.main(params_of(context), asked)


@app.command()
def study(
    context: typer.Context,
    sweep: Annotated[list[str] | None, typer.Option(help="A sweep's name (may be repeated).")] = None,
    rev: Annotated[list[str] | None, typer.Option(help="A revision or experiment (may be repeated).")] = None,
    experiments: Annotated[
        bool, typer.Option("--experiments", help="All of DVC's experiments on this commit.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder to write.")] = ARTIFACTS / "study",
) -> None:
    """Collect studies into figures and tables.

    Unless some are named, that of this workspace. More: docs/study-view.md.
    """
    from domix.cli import study as command

    command.main(params_of(context), out, sweeps=sweep or (), revisions=rev or (), of_dvc=experiments)


@app.command()
def compare(
    context: typer.Context,
    a: Annotated[str, typer.Argument(help="A revision, or a folder that holds params.yaml and artifacts.")],
    b: Annotated[str, typer.Argument(help="Another; `.` is this workspace.")],
    out: Annotated[Path, typer.Option(help="File to write.")] = ARTIFACTS / "compare.html",
) -> None:
    """Put two experiments on one page.

    More: docs/report.md.
    """
    params_of(context)
    from domix.cli import compare as command

    command.main(a, b, out)


@app.command("evaluate-model")
def evaluate_model(
    context: typer.Context,
    model: AnyModel,
    architecture: Architecture = None,
    source: Annotated[str | None, typer.Option(help="A packed source (default: the study's).")] = None,
) -> None:
    """Print the accuracy of any one model.

    More: docs/any-model.md.
    """
    params = params_of(context)
    from domix.cli.models import evaluate_model as command

    command.main(params, model, architecture, source)


@app.command("ood")
def ood(
    context: typer.Context,
    model: AnyModel,
    known: Annotated[str, typer.Option("--id", help="Known images: a packed source, or a folder <class>/<file>.")],
    foreign: Annotated[
        str,
        typer.Option("--ood", help="Foreign sets, with commas: packed or folders; <set>:near or :far says how near."),
    ],
    architecture: Architecture = None,
    score: Annotated[str, typer.Option(help="Scores, with commas (default: all of analyses.ood that serve).")] = "",
    features: Annotated[
        Literal["joint", "tower"] | None,
        typer.Option(help="Features: CLIP's joint embeddings, or what the last layer reads."),
    ] = None,
    train: Annotated[str | None, typer.Option(help="Training images of the known classes, for bank and probe.")] = None,
    probe: Annotated[str | None, typer.Option(help="A head: labels, pseudo, few:<images a class>, in21k.")] = None,
    validate: Annotated[str | None, typer.Option(help="A foreign set that chooses hyper-parameters.")] = None,
    classes: Annotated[Path | None, typer.Option(help="File of the known classes' names, a line each.")] = None,
    templates: Annotated[str | None, typer.Option(help="A set of templates, or a sentence with {}.")] = None,
    convention: Annotated[Literal["plp", "mcm", "openood"], typer.Option(help="Of the FPR at 95 % TPR.")] = "plp",
    json_file: Annotated[Path | None, typer.Option("--json", help="For the layout of ood_metrics.json.")] = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="For OpenOOD's layout, of one score.")] = None,
    out: Annotated[Path | None, typer.Option(help="Of a list of models (a YAML file): for tables and figures.")] = None,
) -> None:
    """Print how well models tell foreign images.

    More: docs/ood.md.
    """
    params = params_of(context)
    from domix.cli.models import ood as command
    from domix.cli.models import ood_models

    asked = command.Asked(
        architecture=architecture,
        scores=names(score),
        classes=classes,
        templates=templates,
        features=features,
        train=train,
        probe=probe,
        validate=validate,
        convention=convention,
        json_file=json_file,
        csv_file=csv_file,
    )
    ood_models.main(params, model, known, names(foreign), asked, out)


@app.command()
def signature(
    context: typer.Context,
    model: AnyModel,
    architecture: Architecture = None,
    images: options.SomeImages = None,
    pruned: Annotated[bool, typer.Option("--pruned", help="Also accuracy of the pruned head.")] = False,
) -> None:
    """Print outlier features and privileged directions.

    More: docs/signatures.md.
    """
    params = params_of(context)
    from domix.cli.models import signature as command

    command.main(params, model, architecture, images, pruned=pruned)


app.command()(zoo)
app.command()(finetune)
app.command()(concepts)


@app.command()
def effective(
    table: Annotated[Path, typer.Argument(help="Accuracies: a CSV file, or artifacts/eval/robustness.parquet.")],
    baselines: options.Baselines = None,
    transform: Annotated[Literal["logit", "probit", "linear"], typer.Option(help="Of the axes.")] = "logit",
    matched: options.Matched = False,
    pivot: Annotated[bool, typer.Option("--pivot", help="Two lines for ImageNet-A.")] = False,
    out: options.EffectiveTables = None,
) -> None:
    """Tell models' effective robustness.

    More: docs/effective-robustness.md.
    """
    from domix.cli.models import effective as command

    command.main(
        command.Asked(table=table, baselines=baselines, transform=transform, matched=matched, pivot=pivot, out=out)
    )


@app.command()
def mixtures(
    context: typer.Context,
    reference: Annotated[
        bool, typer.Option("--reference", help="The reference study's for this test domain instead.")
    ] = False,
) -> None:
    """Tell what mixtures hold, and write nothing.

    More: docs/mixtures.md.
    """
    params = params_of(context)
    from domix.cli import mixtures as command

    command.main(params, of_reference=reference)


@app.command()
def plan(
    context: typer.Context,
    rate: Annotated[
        float | None, typer.Option(help="Samples a second and device; of classifiers it follows from this.")
    ] = None,
    log: Annotated[Path | None, typer.Option(help="log.csv of an earlier training of the same model.")] = None,
    seconds: Annotated[float, typer.Option(help="How long to measure here, without --rate and --log.")] = 5.0,
    test_domains: Domains = "",
) -> None:
    """Tell what trainings will take.

    More: docs/performance.md.
    """
    params = params_of(context)
    from domix.cli import plan as command

    command.main(params, command.Asked(rate=rate, log=log, seconds=seconds, test_domains=names(test_domains)))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def repro(context: typer.Context) -> None:
    """Run the study, side by side, and show its answer.

    Targets and options of `dvc repro` are handed on to it. A dvc.lock that a kill has damaged is restored first.
    """
    from domix.cli import repro as command

    raise typer.Exit(command.main(params_of(context), Path.cwd(), context.args))


@app.command()
def headline(
    folder: Annotated[Path, typer.Argument(help="A repository in which the pipeline was run.")] = Path(),
) -> None:
    """Show the answer of the last run here."""
    from domix.cli import headline as command

    print(command.headline(folder))


@app.command()
def plots(
    revisions: Annotated[list[str] | None, typer.Argument(help="Commits, branches or experiments.")] = None,
) -> None:
    """Compare revisions' plots on a page.

    It needs no network, but the packages of requirements/dev.txt.
    """
    from domix.cli import plots as command

    raise typer.Exit(command.main(Path(), revisions or ()))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def bench(
    context: typer.Context,
    what: Annotated[str, typer.Argument(help=f"{', '.join(BENCHES[:-1])} or {BENCHES[-1]}; then its options.")],
) -> None:
    """Measure a clone of Domix.

    More: docs/performance.md.
    """
    from domix.cli import bench as command

    raise typer.Exit(command.main(Path(), what, context.args))
