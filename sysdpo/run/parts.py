"""Work shared by several jobs: which prompts are whose, and putting together what they made.

No model library is imported here.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sysdpo.base.errors import UserError
from sysdpo.base.files import read_arrow, read_table, whole, write_table
from sysdpo.base.tables import TRAJECTORY_COLUMNS, VALUE_COLUMNS, check_trajectories, check_values
from sysdpo.method.preferences import read_trajectories, variable_of, write_trajectories

SAMPLES, METRICS = "samples.parquet", "metrics.parquet"


def prompts_of_part(prompts: pd.DataFrame, part: str | None, setting: str) -> tuple[pd.DataFrame, int]:
    """The rows of a part, `2/4` say, and the offset of its first one in `prompts`.

    Parts are contiguous and as equal as can be; None is all. setting: the name of the number of parts, for the error.
    """
    if part is None:
        return prompts, 0
    found = re.fullmatch(r"(\d+)/(\d+)", part)
    number, count = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= number <= count:
        raise UserError(f"--part: '{part}' should be two numbers, '2/4' for the second of four")
    if count > len(prompts):
        raise UserError(f"{setting}: {count} should be at most the number of prompts, {len(prompts)}")
    first, end = (len(prompts) * edge // count for edge in (number - 1, number))
    return prompts.iloc[first:end], first


def gather_parts(parts: Sequence[Path], output: Path) -> None:
    """Put parts together in the order given: tables of trajectories, or folders of evaluations.

    The result has its rows in the order of a job that did everything.
    """
    if not parts[0].is_dir():
        with whole(output) as path:
            _append_tables(parts, path)
        return
    with whole(output, holds=(SAMPLES, METRICS)) as folder:
        folder.mkdir()
        _append_tables([part / SAMPLES for part in parts], folder / SAMPLES)
        metrics = pd.concat([read_table(part / METRICS, VALUE_COLUMNS) for part in parts], ignore_index=True)
        check_values(metrics, f"the parts of '{output}'")
        order = pd.Categorical(metrics["metric"], categories=metrics["metric"].unique()).codes
        write_table(metrics.iloc[order.argsort(kind="stable")], folder / METRICS)


def _append_tables(parts: Sequence[Path], output: Path) -> None:
    """Row group by row group: the images of a whole run need not fit into memory.

    Unless a variable's values are of one kind in one part and of several in another, and stored otherwise there.
    """
    stored = [read_arrow(part, TRAJECTORY_COLUMNS, only=TRAJECTORY_COLUMNS).to_pandas() for part in parts]
    check_trajectories(pd.concat(stored, ignore_index=True), f"the parts of '{output}'")
    tables = [pq.ParquetFile(part) for part in parts]
    variables = [list(dict.fromkeys(map(variable_of, table.schema_arrow.names))) for table in tables]
    if any(names != variables[0] for names in variables):
        raise UserError(f"--parts: {list(map(str, parts))} should have the same columns; they have {variables}")
    try:
        # A column that is empty throughout one part has no type there.
        schema = pa.unify_schemas([table.schema_arrow.remove_metadata() for table in tables])
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        schema = None
    if schema is None or any(table.schema_arrow.names != schema.names for table in tables):
        frames = [read_trajectories(part).astype(object) for part in parts]  # or whole numbers would not stay so
        write_trajectories(pd.concat(frames, ignore_index=True), output)
        return
    with pq.ParquetWriter(output, schema) as writer:
        for table in tables:
            for rows in table.iter_batches(batch_size=1000):
                writer.write_table(pa.Table.from_batches([rows]).cast(schema))
