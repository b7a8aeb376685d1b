"""How well `sysdpo plan` counts: jobs, run and measured, beside what the plan says of them.

    python tests/support/tiny_hub.py build/deep-hub --deep
    python benchmarks/plan_fit.py --output build/plan_fit.csv

The jobs are those of the paper's scale with small random models in place of its own, on CPUs. FLOPs are those that
torch's `FlopCounterMode` meets while a whole job runs. Memory is what torch's allocator had handed out at once, as its
profiler records it, and the tensors that were alive before. The plan's own accounting has no part in either.
"""

import argparse
import gc
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce
from itertools import accumulate
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from sysdpo.components.weightless import networks_of
from sysdpo.method.config import Config, load_config
from sysdpo.method.evaluation import evaluate, sample_trajectories
from sysdpo.method.preferences import make_pairs
from sysdpo.method.scales import merged, without_dropped
from sysdpo.method.system import System
from sysdpo.method.training import align
from sysdpo.plan.rules import Row, SystemPlan
from sysdpo.run.cli import prepare

aten = torch.ops.aten
# Counted as on GPUs: torch has no formula for its attention on CPUs.
ATTENTION = {
    aten._scaled_dot_product_flash_attention_for_cpu: aten._scaled_dot_product_flash_attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: aten._scaled_dot_product_flash_attention_backward,
}
SEED = 0
NO_FOUNDATION = Path("nowhere")
CONFIGS = [Path("config.yaml"), Path("workflow/scales/paper.yaml"), Path("build/deep-hub/tiny.yaml")]


def measured_flops(run: Callable[[], Any]) -> int:
    """Of everything that runs."""
    formulas = {kernel: _as_it_is(flop_registry[alike]) for kernel, alike in ATTENTION.items()}
    with FlopCounterMode(display=False, custom_mapping=formulas) as counter:
        run()
    return counter.get_total_flops()


def _as_it_is(formula: Callable[..., int]) -> Callable[..., int]:
    """The formula, marked so that the counter does not wrap it once more."""

    def counted(*arguments: Any, **keywords: Any) -> int:
        return formula(*arguments, **keywords)

    counted._get_raw = True  # type: ignore[attr-defined]
    return counted


def measured_peak(run: Callable[[], Any]) -> int:
    """Bytes: all tensors alive before, and the most that the allocator had handed out at once since."""
    before = alive_bytes(torch.Tensor)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    events = [each for each in profiler.profiler.kineto_results.events() if each.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return before + max(accumulate(changes))


def alive_bytes(kind: type) -> int:
    """Of the memory behind every tensor of a kind that Python knows of, each piece counted once."""
    gc.collect()
    alive = [each for each in gc.get_objects() if isinstance(each, kind)]
    storages = [each.untyped_storage() for each in alive if each.device.type == "cpu"]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


@contextmanager
def weights_at_reference(system: System) -> Iterator[list[int]]:
    """The bytes of all parameters alive, each time that a reference is about to be computed within it."""
    found: list[int] = []
    models = [part for part in system.components.values() if hasattr(part, "_as_reference")]
    switches = [part._as_reference for part in models]  # type: ignore[attr-defined]
    for part, switch in zip(models, switches, strict=True):

        def watched(switch: Any = switch) -> Any:
            found.append(alive_bytes(torch.nn.Parameter))
            return switch()

        part._as_reference = watched  # type: ignore[attr-defined]
    try:
        yield found
    finally:
        for part, switch in zip(models, switches, strict=True):
            part._as_reference = switch  # type: ignore[attr-defined]


class Jobs:
    """The jobs of one system on one seed, whose trajectories its models draw."""

    def __init__(self, config: Config, name: str):
        self.others = alive_bytes(torch.Tensor)
        over: dict[str, Any] = {section: {"shards": 1} for section in ("trajectories", "evaluation")}
        # In half precision CPUs compute on copies in single precision, which GPUs do not make.
        over["components"] = {part: {"dtype": "float32"} for part in config["systems"][name]["components"]}
        self.config, self.name = merged(config, {"seeds": [SEED], "systems": {name: over}}), name
        self.plan = SystemPlan(self.config, name)
        self.benchmark = self.plan.benchmark
        self.prompts = self.benchmark.prompts()
        self.rows: dict[str, Row] = {row.rule: row for row in self.plan.rows()}
        trajectories = self.sampling()()
        scores = self.benchmark.score(self._asked("train"), trajectories, NO_FOUNDATION)
        self.data = trajectories, make_pairs(scores)

    def _asked(self, split: str) -> pd.DataFrame:
        return self.prompts[self.prompts["split"] == split].reset_index(drop=True)

    def sampling(self) -> Callable[[], pd.DataFrame]:
        """Trajectories of the training prompts, by models that are loaded already."""
        system, samples = self.benchmark.system(NO_FOUNDATION), self.plan.sampling.samples_per_prompt
        asked = self._asked("train")
        return lambda: sample_trajectories(self.benchmark, system, asked, samples, seed=SEED, purpose="train")

    def training(self, method: str, system: System | None = None) -> Callable[[], None]:
        """Training by a method, of models that are loaded already."""
        torch.manual_seed(SEED)
        trained, settings = system or self.benchmark.system(NO_FOUNDATION), self.plan.methods[method]

        def run() -> None:
            with tempfile.TemporaryDirectory() as folder:
                align(trained, lambda number: self.data, settings, seed=SEED, output=Path(folder))

        return run

    def evaluation(self, method: str) -> Callable[[], Any]:
        """Sampling and measuring on the test prompts, with the adapters as they start."""
        system, wanted = self.benchmark.system(NO_FOUNDATION), self.plan.evaluation
        settings = {"samples": wanted.samples_per_prompt, "best_of": self.plan.methods[method].best_of}
        settings |= {"greedy": wanted.greedy, "seed": SEED, "purpose": "test"}
        return lambda: evaluate(self.benchmark, system, self._asked("test"), NO_FOUNDATION, **settings)

    def job(self, rule: str) -> Callable[[], Any]:
        """The job of a rule and method, as the plan names it."""
        kind, _, method = rule.partition(" ")
        if kind == "train":
            return self.training(method)
        if kind == "score":
            return lambda: self.benchmark.score(self._asked("train"), self.data[0], NO_FOUNDATION)
        return self.sampling() if kind == "sample" else self.evaluation(method)

    def compared(self, rule: str) -> list[dict[str, Any]]:
        """What was measured of a job, and what the plan says."""
        row = self.rows[rule]
        measured = {"flops": measured_flops(self.job(rule)), "peak_bytes": measured_peak(self.job(rule)) - self.others}
        planned = {"flops": row.usage.total_flops, "peak_bytes": row.peak_bytes}
        return [self._beside(rule, what, value, planned[what]) for what, value in measured.items()]

    def copies(self, method: str) -> dict[str, Any]:
        """The most bytes of parameters alive when a reference is computed, and what one copy of each model has."""
        others = alive_bytes(torch.nn.Parameter)
        system = self.benchmark.system(NO_FOUNDATION)
        with weights_at_reference(system) as weights:
            self.training(method, system)()
        networks = networks_of(*self.plan.rehearsal.system.components.values())
        once = sum(weight.nbytes for network in networks for weight in network.parameters())
        return self._beside(f"train {method}", "parameter_bytes", max(weights) - others, once)

    def _beside(self, rule: str, quantity: str, measured: float, planned: float) -> dict[str, Any]:
        about = {"system": self.name, "rule": rule, "quantity": quantity}
        return about | {"measured": measured, "planned": planned, "ratio": round(planned / measured, 3)}


def main() -> None:
    """Measure, print what came out, and write it."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--config", type=Path, nargs="+", default=CONFIGS, help="laid one over the other")
    options.add_argument("--systems", nargs="+", help="all of the configuration, if none are named")
    options.add_argument("--methods", nargs="+", default=["direct", "sampling"])
    options.add_argument("--output", type=Path, required=True)
    given = options.parse_args()
    prepare()
    config = without_dropped(reduce(merged, map(load_config, given.config)))
    found = []
    for name in given.systems or config["systems"]:
        jobs = Jobs(config, name)
        rules = [f"{kind} {method}" for method in given.methods for kind in ("train", "evaluate")]
        for rule in [rule for rule in ("sample", "score", *rules) if rule in jobs.rows]:
            found += jobs.compared(rule)
            print(_written(found[-2:]), flush=True)
        found.append(jobs.copies(given.methods[0]))
        print(_written(found[-1:]), flush=True)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(found).to_csv(given.output, index=False)
    print(f"\n{_written(found)}")


def _written(found: list[dict[str, Any]]) -> str:
    table = pd.DataFrame(found)
    return table.to_string(index=False, formatters={"measured": "{:.4g}".format, "planned": "{:.4g}".format})


if __name__ == "__main__":
    main()
