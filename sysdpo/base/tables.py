"""One validator for each table that steps exchange; errors name the file and the row, counted from 0.

Tables are joined by their ids, never by the order of their rows.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sysdpo.base.errors import UserError
from sysdpo.base.files import require_columns

SPLITS = ("train", "validation", "test")
PROMPT_COLUMNS = ("prompt_id", "split", "text")
TRAJECTORY_COLUMNS = ("trajectory_id", "prompt_id", "sample")
SCORE_COLUMNS = ("trajectory_id", "prompt_id", "score")
PAIR_COLUMNS = ("pair_id", "prompt_id", "chosen_id", "rejected_id", "margin")
VALUE_COLUMNS = ("prompt_id", "content", "sample", "metric", "value")
NUMBERS = (int, float, np.number, np.bool_)


def check_rows(table: pd.DataFrame, name: str, *, keys: Sequence[str], numbers: Iterable[str] = ()) -> None:
    """Raises `UserError` if a row lacks a key, repeats another row's keys, or has a number that is not finite.

    name: the table's, for the error.
    """
    require_columns(table, (*keys, *numbers), name)
    for key in keys:
        has_key = [isinstance(value, (str, int, np.integer)) for value in table[key]]
        _refuse(table, ~np.array(has_key, bool), name, f"has no {key} that is a text or a whole number", (key,))
    _refuse(table, table.duplicated(list(keys)), name, f"repeats another row's {', '.join(keys)}", keys)
    for number in numbers:
        finite = [isinstance(value, NUMBERS) and bool(np.isfinite(value)) for value in table[number]]
        _refuse(table, ~np.array(finite, bool), name, f"has a {number} that is no finite number", (*keys, number))


def check_prompts(table: pd.DataFrame, name: str, inputs: Collection[str] = ()) -> None:
    """Raises `UserError` unless each prompt has a unique id, a split, a text and the system's inputs.

    If there is a column `content`, every prompt must have one: prompts with the same content are about the same thing.
    """
    require_columns(table, (*PROMPT_COLUMNS, *inputs), name)
    check_rows(table, name, keys=("prompt_id",))
    _refuse(table, ~table["split"].isin(SPLITS), name, f"has a split that is none of {list(SPLITS)}", ("split",))
    for column in dict.fromkeys(("text", *inputs)):
        _refuse(table, table[column].isna(), name, f"has no {column}", ("prompt_id",))
    if "content" in table:
        check_contents(table, name)


def contents_of(prompts: pd.DataFrame) -> pd.Series:
    """Each prompt's content as a string, indexed by prompt id: the column `content`, or without one the id itself."""
    column = "content" if "content" in prompts else "prompt_id"
    return pd.Series(prompts[column].astype(str).to_numpy(), index=prompts["prompt_id"], name="content")


def check_contents(table: pd.DataFrame, name: str) -> None:
    """Raises `UserError` unless each row has a content, a string or an integer, and each prompt only one."""
    require_columns(table, ("prompt_id", "content"), name)
    has_content = [isinstance(value, (str, int, np.integer)) for value in table["content"]]
    shown = ("prompt_id", "content")
    _refuse(table, ~np.array(has_content, bool), name, "has no content that is a text or a whole number", shown)
    first = table.groupby("prompt_id", sort=False)["content"].transform("first")
    _refuse(table, table["content"] != first, name, "has another content than its prompt has elsewhere", shown)


def check_trajectories(
    table: pd.DataFrame, name: str, prompts: pd.DataFrame | None = None, variables: Iterable[str] = ()
) -> None:
    """Raises `UserError` unless trajectory ids and pairs of prompt and sample are unique.

    prompts: the prompts that trajectories must belong to. variables: columns that, if present, must have no gaps.
    """
    require_columns(table, TRAJECTORY_COLUMNS, name)
    check_rows(table, name, keys=("trajectory_id",))
    check_rows(table, name, keys=("prompt_id", "sample"), numbers=("sample",))
    if prompts is not None:
        unknown = ~table["prompt_id"].isin(prompts["prompt_id"])
        _refuse(table, unknown, name, "is of a prompt that is not among those given", ("trajectory_id", "prompt_id"))
    for variable in variables:
        if variable in table:
            _refuse(table, table[variable].isna(), name, f"has no {variable}", ("trajectory_id",))


def check_scores(table: pd.DataFrame, name: str, trajectories: pd.DataFrame | None = None) -> pd.DataFrame:
    """The scores, in the order of `trajectories` if given.

    Raises `UserError` unless every score is finite and each of the given trajectories has exactly one.
    """
    require_columns(table, SCORE_COLUMNS, name)
    check_rows(table, name, keys=("trajectory_id",), numbers=("score",))
    check_rows(table, name, keys=("prompt_id", "trajectory_id"))
    if trajectories is None:
        return table
    shown = ("trajectory_id", "prompt_id")
    unknown = ~table["trajectory_id"].isin(trajectories["trajectory_id"])
    _refuse(table, unknown, name, "is of a trajectory that is not among those given", shown)
    lacking = trajectories.loc[~trajectories["trajectory_id"].isin(table["trajectory_id"]), "trajectory_id"]
    if len(lacking):
        raise UserError(f"{name}: the trajectory '{lacking.iloc[0]}' has none; each should have one{_more(lacking)}")
    prompts = trajectories.set_index("trajectory_id")["prompt_id"]
    other = table["prompt_id"].to_numpy() != prompts.loc[table["trajectory_id"]].to_numpy()
    _refuse(table, other, name, "is of another prompt than its trajectory", shown)
    return table.set_index("trajectory_id", drop=False).loc[trajectories["trajectory_id"]].reset_index(drop=True)


def check_pairs(table: pd.DataFrame, name: str, trajectories: pd.DataFrame) -> None:
    """Raises `UserError` unless each pair consists of two different trajectories of its prompt."""
    require_columns(table, PAIR_COLUMNS, name)
    check_rows(table, name, keys=("pair_id",), numbers=("margin",))
    prompts = trajectories.set_index("trajectory_id")["prompt_id"]
    for side in ("chosen_id", "rejected_id"):
        unknown = ~table[side].isin(prompts.index)
        _refuse(table, unknown, name, f"has a {side} that is not among the trajectories", ("pair_id", side))
        other = prompts.loc[table[side]].to_numpy() != table["prompt_id"].to_numpy()
        _refuse(table, other, name, f"has a {side} that is of another prompt", ("pair_id", "prompt_id", side))
    alone = table["chosen_id"] == table["rejected_id"]
    _refuse(table, alone, name, "pairs a trajectory with itself", ("pair_id", "chosen_id"))


def check_values(table: pd.DataFrame, name: str) -> None:
    """Raises `UserError` unless each sample has one finite value of each metric, and each prompt one content."""
    check_contents(table, name)
    check_rows(table, name, keys=("prompt_id", "sample", "metric"), numbers=("value",))


def check_metrics(table: pd.DataFrame, name: str) -> None:
    """Raises `UserError` unless each method of a system has one finite mean and interval of each metric."""
    check_rows(table, name, keys=("system", "method", "metric"), numbers=("mean", "ci_low", "ci_high"))


def check_comparisons(table: pd.DataFrame, name: str) -> None:
    """Raises `UserError` unless each method has one finite difference from each baseline in each metric."""
    keys = ("system", "metric", "method", "baseline")
    check_rows(table, name, keys=keys, numbers=("difference", "ci_low", "ci_high"))


def _refuse(table: pd.DataFrame, wrong: Any, name: str, what: str, shown: Collection[str] = ()) -> None:
    rows = np.flatnonzero(np.asarray(wrong, dtype=bool))
    if len(rows):
        # `tolist` of a slice gives Python numbers instead of numpy's.
        row = {column: table[column].iloc[rows[0] : rows[0] + 1].tolist()[0] for column in shown}
        values = ", ".join(f"{column} {value!r}" for column, value in row.items())
        raise UserError(f"{name}: row {rows[0]} {what}{f' ({values})' if values else ''}{_more(rows)}")


def _more(wrong: Any) -> str:
    return f"; so do {len(wrong) - 1} more" if len(wrong) > 1 else ""
