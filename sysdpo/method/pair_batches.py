"""Which pairs each update learns from, and the share of them that each process computes."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from sysdpo.base.errors import UserError
from sysdpo.base.seeds import numpy_generator
from sysdpo.method.intermediates import BatchLogProbs, Intermediates
from sysdpo.method.settings import MethodSettings
from sysdpo.method.system import System

DRAWS_PER_RUN = 10**7


@dataclass(frozen=True)
class MicroBatch:
    """Pairs that go through the models together.

    log_probs: computes their log-probabilities. weight: their share of this process's pairs in the update.
    """

    log_probs: partial[BatchLogProbs]
    weight: float


class PairBatches:
    """The updates of one round, each as this process's own micro-batches.

    Every random number depends on `seed`, `number`, the update and the pair alone, not on how the batch is shared.

    trajectories, pairs: as in `training.train_round`.
    components: the trained ones.
    number: of the round.
    process: this process's number, from 0.
    processes: how many share each batch evenly.

    Raises `UserError` if `batch_size` is not a multiple of `processes`, or if pairs name unknown trajectories.
    """

    def __init__(
        self,
        system: System,
        intermediates: Intermediates,
        trajectories: pd.DataFrame,
        pairs: pd.DataFrame,
        settings: MethodSettings,
        components: list[str],
        *,
        seed: int,
        number: int,
        process: int = 0,
        processes: int = 1,
    ):
        self.rows = trajectories.set_index("trajectory_id")
        if unknown := sorted({*pairs["chosen_id"], *pairs["rejected_id"]} - set(self.rows.index)):
            raise UserError(f"pairs: {len(unknown)} trajectories are not among those given, '{unknown[0]}' the first")
        if settings.batch_size % processes:
            raise UserError(f"batch_size: {settings.batch_size} should be a multiple of the {processes} processes")
        self.share = settings.batch_size // processes
        self.own = slice(process * self.share, (process + 1) * self.share)
        self.system, self.intermediates, self.pairs, self.settings = system, intermediates, pairs, settings
        self.components, self.seed, self.number = components, seed, number
        self.seen = intermediates.variables(self.rows.columns)

    def may_start_at(self, step: int) -> bool:
        """Whether `starting_at` may begin here: candidates for several updates are prepared together."""
        return step % self.intermediates.refresh == 0

    def starting_at(self, first: int = 0) -> Iterator[list[MicroBatch]]:
        """The updates from number `first` on, each as a list of micro-batches."""
        settings = self.settings
        batches = shuffled_batches(
            len(self.pairs), settings.batch_size, numpy_generator("batches", self.seed, self.number)
        )
        ahead: list[tuple[np.ndarray, np.ndarray]] = []
        for _ in range(first):
            next(batches)
        for step in range(first, settings.steps):
            if not ahead:
                ahead = list(itertools.islice(batches, min(self.intermediates.refresh, settings.steps - step)))
                self._prepare([rows for rows, _ in ahead], step)
            rows, passes = (numbers[self.own] for numbers in ahead.pop(0))
            size = settings.micro_batch_size or self.share
            yield [
                self._micro_batch(rows[start : start + size], passes[start : start + size])
                for start in range(0, self.share, size)
            ]

    def _prepare(self, coming: list[np.ndarray], step: int) -> None:
        prompts = self.pairs["prompt_id"].to_numpy()
        everyone = np.concatenate(coming)
        stream = numpy_generator("candidates", self.seed, self.number, step)
        seeds = stream.integers(1 << 62, size=len(everyone)).tolist()
        seed_of = dict(zip(prompts[everyone][::-1], seeds[::-1], strict=True))  # of a prompt its first
        mine = self.pairs.iloc[np.concatenate([rows[self.own] for rows in coming])]
        first = self.rows.loc[mine["chosen_id"]]
        inputs = {name: first[name].tolist() for name in self.system.inputs}
        keys = mine["prompt_id"].tolist()
        with self.system.unsharded():
            self.intermediates.prepare(inputs, keys, seeds=[seed_of[key] for key in keys])

    def _micro_batch(self, rows: np.ndarray, passes: np.ndarray) -> MicroBatch:
        pairs = self.pairs.iloc[rows]
        # A pair meets the same few noises again and again: less variance, and the reference's part is known.
        bank = self.settings.noise_bank
        draw = (self.seed * DRAWS_PER_RUN + rows * bank + passes % bank).tolist() * 2
        both = self.rows.loc[[*pairs["chosen_id"], *pairs["rejected_id"]]]
        variables = {name: both[name].tolist() for name in self.seen}
        prompts = pairs["prompt_id"].tolist() * 2
        log_probs = partial(self.intermediates.log_probs, variables, prompts, draw=draw, components=self.components)
        return MicroBatch(log_probs, len(pairs) / self.share)


def shuffled_batches(count: int, size: int, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Endless shuffled passes over `count` pairs in batches of `size`.

    Yields for each batch the pairs' row numbers and the number of the pass that each belongs to, both int64 `[size]`.
    The last batch of a pass is filled up from the next pass.
    """
    rows, passes = np.empty(0, dtype=int), np.empty(0, dtype=int)
    for number in itertools.count():
        rows = np.concatenate([rows, rng.permutation(count)])
        passes = np.concatenate([passes, np.full(count, number)])
        while len(rows) >= size:
            yield rows[:size], passes[:size]
            rows, passes = rows[size:], passes[size:]
