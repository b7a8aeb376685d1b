"""Work shared by several jobs: dividing the prompts, and joining the results.

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
    """The rows of a part, and the offset of its first row in `prompts`.

    Parts are contiguous and differ by at most one row.

    part: `2/4` for the second of four; None is all. setting: the setting with the number of parts, for the error.

    Raises `UserError` if `part` has another form, or if there are fewer prompts than parts.
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
    """Join parts in the order given: tables of trajectories, or folders of evaluations.

    The rows are in the order in which a single job would have written them.
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
    """Append tables row group by row group, so that the images of a whole run need not fit into memory.

    If parts store a variable in different ways, because its values are of several kinds in one of them, the tables are
    joined in memory instead.
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
