"""The steps that record how the results were made, and compare two runs."""

from pathlib import Path
from typing import Annotated

from sysdpo.run import options


def manifest(
    *,
    config: options.Config,
    results: options.Results,
    crate: Annotated[
        Path | None,
        options.path("Also describe the results as an RO-Crate: the file ro-crate-metadata.json in their folder."),
        options.WRITTEN,
    ] = None,
    output: options.OutputFile,
) -> None:
    """Write the manifest: versions, machine, seeds, and the checksum of every file."""
    from sysdpo.run.manifest import write_manifest

    if crate is not None:
        from sysdpo.run.ro_crate import check_crate, write_crate

        check_crate(crate, results)
    write_manifest(results, config, output)
    if crate is not None:
        write_crate(results, config, output, crate)


def verify(
    *,
    config: options.Config,
    results: options.Results,
    digests: Annotated[Path, options.path("The earlier run's manifest, from `manifest`.")],
) -> None:
    """Compare every file of the results with the checksums of an earlier manifest."""
    from sysdpo.run.manifest import stop_if_other

    stop_if_other(results, digests)


def verdicts(
    *,
    config: options.Config,
    comparisons: options.Comparisons,
    committed: Annotated[Path, options.path("The other run's table of comparisons.")],
) -> None:
    """Compare the conclusions of two runs, by their intervals, where no file can be the same."""
    from sysdpo.run.verdicts import compare_verdicts

    print(compare_verdicts(comparisons, committed))


def show(
    *,
    config: options.Config,
    claims: Annotated[Path, options.path("The table of verdicts, from `claims`.")],
    descriptions: options.Descriptions,
    committed: Annotated[Path | None, options.path("The other run's table of verdicts.")] = None,
) -> None:
    """Print the verdict on every claim, beside another run's if there is one."""
    from sysdpo.run.verdicts import beside

    print(beside(claims, committed, descriptions))
