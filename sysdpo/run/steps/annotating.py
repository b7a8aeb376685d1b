"""The step with which people judge what a run has made."""

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import Field

from sysdpo.base.errors import UserError
from sysdpo.base.files import read_table
from sysdpo.base.settings import Seed
from sysdpo.base.settings import one_of as check_one_of
from sysdpo.method.config import Config, load_config, method_settings
from sysdpo.report.files import SAMPLES, seeds_of
from sysdpo.run import options
from sysdpo.run.inputs import benchmark_of

PORT = 8765
Port = Annotated[int, Field(ge=0, le=65535)]


def annotate(
    *,
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="The results of a run, a folder with config.yaml.", parser=Path)
    ],
    system: Annotated[str | None, options.text("The system's name, if the run has several.")] = None,
    seed: Annotated[int | None, options.number("The seed of the run; by default its first one.", Seed)] = None,
    between: Annotated[
        str | None,
        options.text("Compare two methods' evaluations, not samples from before alignment.", "NAME,NAME"),
    ] = None,
    pairs: Annotated[int, options.number("How many pairs everybody is asked about.")] = 100,
    annotator: Annotated[str | None, options.text("Who judges; by default the page asks.")] = None,
    port: Annotated[int, options.number("The port of the page, on this machine alone; 0 is any.", Port)] = PORT,
    report: Annotated[bool, options.flag("--report", "Say how far people agree so far, and serve no page.")] = False,
    output: Annotated[
        Path | None,
        options.path("The judgements, which are added to; by default SYSTEM-judgements.jsonl."),
        options.WRITTEN,
    ] = None,
) -> None:
    """Let people judge pairs of a run's outputs, on a page of this machine.

    Each judgement is kept in a file of preferences the moment it is given.
    Stop with Ctrl-C; the same command goes on where everybody was.

    For example: sysdpo annotate results --system two_stage_qa
    """
    name, runs, config = _system_of(run, system)
    path = output or Path(f"{name}-judgements.jsonl")
    if path.suffix != ".jsonl":
        raise UserError(f"--output: '{path}' should be a .jsonl file")
    _check_installed()
    benchmark = benchmark_of(config, name)
    from sysdpo.library.agreement import agreement
    from sysdpo.library.annotation_pairs import Graph
    from sysdpo.library.judgements import Journal, read_judgements
    from sysdpo.method.benchmark import outputs_of
    from sysdpo.run.annotation_page import Session, check_name, make_app

    graph = Graph(benchmark.inputs, [node.name for node in benchmark.nodes], outputs_of(benchmark))
    title = benchmark.description.title or name.replace("_", " ").capitalize()
    who = check_name(annotator.strip()) if annotator is not None else ""
    if report:
        if not path.is_file():
            raise UserError(f"--output: '{path}' should be a file of judgements; there is none")
        found = read_judgements(path, [*graph.inputs, *graph.generated])
        print("\n".join(agreement(found).lines()))
        return
    chosen = _pairs_of(config, name, runs, seed, between, graph, pairs)
    with _listening(port) as listening:
        journal = Journal(path, [*graph.inputs, *graph.generated])
        try:
            address = f"http://{'{}:{}'.format(*listening.getsockname())}/"
            print(f"Judge {len(chosen)} pairs at {address} and stop with Ctrl-C. Judgements: {path}", flush=True)
            _serve(make_app(Session(title, graph, chosen, journal, who)), listening)
        finally:
            journal.close()
    if journal.judgements:
        print("\n".join(agreement(journal.judgements).lines()))
        print(f'{len(journal.judgements)} judgements, to learn from: sysdpo.read_preferences("{path}", system)')


def _system_of(run: Path, system: str | None) -> tuple[str, Path, Config]:
    """The system's name, the folder of its runs, and the run's configuration."""
    if not (run / "config.yaml").is_file() or not (run / "runs").is_dir():
        raise UserError(f"RUN: '{run}' should be a run's results, a folder with config.yaml and runs")
    config = load_config(run / "config.yaml")  # its numerics do not matter, since no model is run
    names = [name for name in config["systems"] if (run / "runs" / name).is_dir()]
    if not names:
        raise UserError(f"RUN: '{run / 'runs'}' should have a folder of one of {list(config['systems'])}")
    if system is None and len(names) > 1:
        raise UserError(f"--system should be given: one of {names}")
    name = names[0] if system is None else system
    check_one_of("--system", name, names)
    return name, run / "runs" / name, config


def _pairs_of(
    config: Config, system: str, runs: Path, seed: int | None, between: str | None, graph: Any, count: int
) -> Any:
    from sysdpo.library.annotation_pairs import pairs_between, pairs_within

    seeds = seeds_of(runs)
    if seed is not None and seed not in seeds:
        raise UserError(f"--seed: {seed} should be one of {seeds}")
    folder = runs / str(seeds[0] if seed is None else seed)
    prompts = runs / "prompts.parquet"
    table = read_table(prompts, ("prompt_id",)) if prompts.is_file() else None
    contents = {}
    if table is not None and "content" in table:
        contents = dict(zip(table["prompt_id"].tolist(), table["content"].tolist(), strict=True))
    if between is None:
        path = folder / "trajectories.parquet"
        if not path.is_file():
            raise UserError(
                f"RUN: '{path}' is not there, since the run has sampled nothing to learn from; --between NAME,NAME "
                "compares the outputs of two methods"
            )
        return pairs_within(path, graph, count, contents)
    names = [name.strip() for name in between.split(",")]
    if len(names) != 2 or len(set(names)) != 2:
        raise UserError(f"--between: '{between}' should be two methods, as in before,direct")
    paths = {}
    for name in names:
        method_settings(config, system, name)
        paths[name] = folder / name / "evaluation" / SAMPLES
        if not paths[name].is_file():
            raise UserError(f"--between: '{name}' should have been evaluated, but '{paths[name]}' is not there")
    return pairs_between(paths, graph, count, contents)


def _check_installed() -> None:
    """The libraries of the page are optional."""
    try:
        import krippendorff  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UserError(f"annotate needs {error.name}; install it with: pip install 'sysdpo[annotate]'") from error


def _listening(port: int) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise UserError(
            f"--port: {port} cannot be used ({reason}); give another one, or 0 for any that is free"
        ) from error


def _serve(app: Any, listening: socket.socket) -> None:
    """Until Ctrl-C."""
    import uvicorn

    settings = uvicorn.Config(
        app, log_level="warning", lifespan="off", server_header=False, proxy_headers=False, timeout_graceful_shutdown=1
    )
    with suppress(KeyboardInterrupt):
        uvicorn.Server(settings).run(sockets=[listening])
