"""A table at a node: few conditions, few values, a free probability for each. Systems of tables can be enumerated."""

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sysdpo.base.errors import UserError
from sysdpo.base.seeds import numpy_generator
from sysdpo.method.component import Drift, LogProbs

FILE = "table.safetensors"


class Table:
    """`p_θ(value | condition)` as a softmax over trainable logits.

    conditions: tuples with one value for each parent. values: strings, integers or anything else that is hashable.
    logits: of the reference, `[conditions, values]`; the policy starts there. −inf makes a value impossible, for a
    component whose nodes have different values. Their dtype, float64 included, is that of the parameters and of
    log-probabilities.
    temperature: of `sample` alone; 0 takes the likeliest value.

    Raises `UserError` if conditions or values repeat, if the shape differs, or if a row has no possible value.
    """

    def __init__(
        self,
        conditions: Sequence[tuple[Hashable, ...]],
        values: Sequence[Hashable],
        logits: Tensor,
        *,
        temperature: float = 1.0,
    ):
        self.conditions, self.values, self.temperature = list(conditions), list(values), temperature
        self._rows = {condition: row for row, condition in enumerate(self.conditions)}
        self._columns = {value: column for column, value in enumerate(self.values)}
        shape = (len(self._rows), len(self._columns))
        if tuple(logits.shape) != shape or shape != (len(self.conditions), len(self.values)):
            raise UserError(
                f"logits: the shape {tuple(logits.shape)} should be (conditions, values), which are {shape} without "
                f"repetitions of {len(self.conditions)} and {len(self.values)}"
            )
        if not logits.isfinite().any(-1).all() or logits.isnan().any() or (logits == torch.inf).any():
            raise UserError(
                "logits: each should be a number or −inf, and each condition needs a value that is possible"
            )
        reference = logits.detach().log_softmax(-1)
        self.logits = torch.nn.Parameter(reference.clone())
        self._reference = self._initial = reference

    def reset(self) -> None:
        """Put policy and reference back to what they were when the table was made."""
        self._reference = self._initial.to(self.logits.device)
        self.logits.data.copy_(self._reference)

    @classmethod
    def from_probabilities(
        cls,
        conditions: Sequence[tuple[Hashable, ...]],
        values: Sequence[Hashable],
        probabilities: Tensor,
        *,
        temperature: float = 1.0,
    ) -> "Table":
        """A table with these probabilities, `[conditions, values]`.

        Raises `UserError` unless they are at least 0 and every row sums to 1.
        """
        if (probabilities < 0).any() or not torch.allclose(
            probabilities.sum(-1), probabilities.new_ones(()), atol=1e-5
        ):
            raise UserError("probabilities: they should be at least 0 and sum to 1 for each condition")
        return cls(conditions, values, probabilities.log(), temperature=temperature)

    def to(self, device: torch.device) -> None:
        """Move the logits; the optimizer's references to them stay valid."""
        self.logits.data = self.logits.data.to(device)
        self._reference = self._reference.to(device)

    @torch.no_grad()
    def sample(self, conditions: Sequence[tuple[Any, ...]], *, seeds: Sequence[int]) -> list[Any]:
        """One value for each condition, drawn at `temperature` from the row's own seed."""
        logits = self.logits[self._find_rows(conditions)].double().cpu()
        if self.temperature == 0:
            return [self.values[column] for column in logits.argmax(-1).tolist()]
        cumulative = (logits / self.temperature).softmax(-1).cumsum(-1)
        cumulative = cumulative / cumulative[:, -1:]  # rounding must not leave a draw above the last value
        draws = torch.tensor([numpy_generator("table", seed).random() for seed in seeds], dtype=torch.float64)
        columns = torch.searchsorted(cumulative, draws[:, None], right=True)[:, 0]
        return [self.values[column] for column in columns.tolist()]

    def log_probs(
        self, conditions: Sequence[tuple[Any, ...]], values: Sequence[Any], *, draw: Sequence[int]
    ) -> LogProbs:
        """Exact log-probabilities in nats, `[batch]`, in the dtype of the logits; `draw` has no effect."""
        return self.log_probs_at(self.locate(conditions, values))

    def locate(self, conditions: Sequence[tuple[Any, ...]], values: Sequence[Any]) -> Tensor:
        """The index of each row in the flattened table, int64 `[batch]`, for repeated use with `log_probs_at`."""
        rows, columns = self._find_rows(conditions), self._find_columns(values)
        return torch.tensor(rows) * len(self.values) + torch.tensor(columns)

    def log_probs_at(self, index: Tensor) -> LogProbs:
        """`log_probs` of the rows that `locate` found; shapes `[batch]`."""
        index = index.to(self.logits.device)
        policy = self.logits.log_softmax(-1).flatten().index_select(0, index)
        return LogProbs(policy, self._reference.flatten().index_select(0, index))

    def decoder(self, conditions: Sequence[tuple[Any, ...]]) -> "TableDecoder":
        """Generation in one step at temperature 1: each value is a token, and every token ends."""
        return TableDecoder(self.values, self.logits.detach().log_softmax(-1)[self._find_rows(conditions)].float())

    def _find_rows(self, conditions: Sequence[tuple[Any, ...]]) -> list[int]:
        try:
            return [self._rows[condition] for condition in conditions]
        except KeyError as error:
            raise UserError(f"condition: {error.args[0]!r} should be one of the table's {self.conditions}") from error

    def _find_columns(self, values: Sequence[Any]) -> list[int]:
        try:
            return [self._columns[value] for value in values]
        except KeyError as error:
            raise UserError(f"value: {error.args[0]!r} should be one of the table's {self.values}") from error

    @torch.no_grad()
    def drift(self, conditions: Sequence[tuple[Any, ...]], values: Sequence[Any], *, draw: Sequence[int]) -> Drift:
        """Log-ratios, whose mean over draws estimates the KL divergence, and `−log p`; `draw` has no effect."""
        policy, reference = self.log_probs(conditions, values, draw=draw)
        return Drift(policy - reference, -policy)

    def trainable_parameters(self) -> list[torch.nn.Parameter]:
        """The logits."""
        return [self.logits]

    def rebase_reference(self) -> None:
        """Make the present policy the reference."""
        self._reference = self.logits.detach().log_softmax(-1)

    def save(self, folder: Path) -> None:
        """Write the policy's logits (safetensors) with the conditions and values."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"logits": self.logits.detach().cpu().contiguous()}, folder / FILE, {"names": self._names()})

    def load(self, folder: Path) -> None:
        """Read logits into the policy; raises `UserError` if they are of another table."""
        path = folder / FILE
        try:
            with safe_open(path, "pt") as file:
                names, logits = (file.metadata() or {}).get("names"), file.get_tensor("logits")
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"table: '{path}' should be a table that was saved, but cannot be read ({error})"
            ) from error
        if names != self._names():
            raise UserError(f"table: '{path}' should have the conditions and values {self._names()}; it has {names}")
        self.logits.data.copy_(logits)

    def _names(self) -> str:
        return f"{self.conditions!r} {self.values!r}"


class TableDecoder:
    """The `Decoder` of a table (see `sysdpo.method.candidates`): one token a value, which ends it."""

    max_length = 1

    def __init__(self, values: list[Any], log_probs: Tensor):
        self.ends = frozenset(range(len(values)))
        self._values, self._log_probs = values, log_probs

    def start(self) -> Tensor:
        """`log p(value | condition)`: float32 `[conditions, values]`."""
        return self._log_probs

    def advance(self, rows: Tensor, tokens: Tensor) -> Tensor:
        """Nothing follows a value: −inf for every token, float32 `[m, values]`."""
        return self._log_probs.new_full((len(rows), len(self._values)), -torch.inf)

    def value(self, tokens: Sequence[int]) -> Any:
        """The value that this one token stands for."""
        return self._values[tokens[0]]
