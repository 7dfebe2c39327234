"""The domain of tables, as the verbs see it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from sparring.core.game import Batch, DataSpec, Game
from sparring.data.database import is_database
from sparring.data.dataset import Dataset
from sparring.data.frames import csv_text, keep_frame
from sparring.data.workbooks import write_workbook
from sparring.domains.domain import Domain, Progress
from sparring.domains.figures import save_figure
from sparring.domains.table.cells import SPACES, Cells, open_features
from sparring.domains.table.check import check_table, introduce
from sparring.domains.table.columns import Column
from sparring.domains.table.constraints import Kept, Plan
from sparring.domains.table.data import TableData, TableOptions, columns_of, decode, open_table, plan_of
from sparring.domains.table.games import GAMES
from sparring.domains.table.metrics import measures_for
from sparring.domains.table.metrics.marginals import associations, coded
from sparring.domains.table.private import with_noise
from sparring.domains.table.show import cloud, marginals, matrices
from sparring.domains.table.where import Where
from sparring.errors import UserError, missing_extra
from sparring.files import whole_file
from sparring.options import validate
from sparring.recipe import Recipe

if TYPE_CHECKING:
    from pandas import DataFrame

RELATED = 256  # columns whose pairs a picture shows, for there are their squares of them


class TableDomain(Domain):
    """Rows of mixed columns. Games see encoded rows (D,); files and pictures have the columns' own values."""

    name = "table"
    games = GAMES
    measures = measures_for((), None)
    spaces = SPACES
    formats = ("csv", "parquet", "xlsx", "sheet")
    sample = "encoded rows (D,): of a column of numbers a place between -1 and 1, then of every column a one-hot"
    unit = "rows"
    # A row takes microseconds; what a thousand of them take lies within a core's own memory.
    drawn = 8192
    cpu_batch = 1024
    abreast = True

    private_outside = (
        "of a column its kind, its categories, the least and the largest value, decimals, and where its modes lie"
    )

    columns: Sequence[Column] = ()
    """As games have them."""
    plan: Plan | None = None

    def knowing(self, spec: DataSpec) -> Self:
        """This domain, knowing the columns."""
        other = copy.copy(self)
        other.columns, other.plan = columns_of(spec), plan_of(spec)
        shown = other.columns if other.plan is None else other.plan.shown
        cells, extra = Cells(other.columns, other.plan).cells, spec.extra
        other.measures = measures_for(cells, extra.get("target"), extra.get("protected"), shown, other.frame_of)
        return other

    def introduce(self, spec: DataSpec) -> list[str]:
        """The kinds of the columns."""
        plan = plan_of(spec)
        return introduce(spec.count, columns_of(spec) if plan is None else plan.shown)

    def resolve_data(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Validate against `TableOptions`."""
        return validate(TableOptions, options, where="data")

    def sieve(self, game: Game, label: Any) -> Where | Kept | None:
        """See `domains.table.where`, and where rows have constraints, `domains.table.constraints`."""
        plan = self.plan
        if plan is None:
            return None if label is None else Where(label, self.columns, game.labels, self._shown)
        where = Where(label, plan.shown, game.labels, self._shown, lambda levels: plan.joint(levels, self.columns))
        return Kept(plan, where, self._shown) if plan.words or label is not None else None

    def _shown(self, samples: Batch, only: Sequence[str] | None) -> DataFrame:
        """Rows as users see them; only: these columns at least."""
        if self.plan is not None:
            return self.frame_of(samples)
        return decode(samples["data"], self.columns, rows=samples.get("row"), only=only, numbers=samples.get("numbers"))

    def keep(self, data: Any) -> str:
        """A pandas DataFrame as a file in the cache."""
        return keep_frame(data)

    def open_data(self, options: Mapping[str, Any], progress: Progress | None = None) -> TableData:
        """Read the table into memory."""
        return open_table(_options(options), progress=progress)

    def without_data(self, recipe: Recipe) -> list[str]:
        """Rows are drawn each by chance, and not by their categories."""
        return ["data.sampling=rows"]

    def describe_privately(self, data: Dataset, noise: float, draw: Callable[[int], Tensor]) -> list[float]:
        """Put noise on how often the data have what: see `domains.table.private`."""
        assert isinstance(data, TableData)
        if "plan" in data.spec.extra:
            raise UserError(
                "data.constraints: how often they bind is told of the data without noise, so a private run has none: leave them out"
            )
        data.describe(with_noise(data.columns, noise, draw))
        return [noise]

    def adopt(self, data: Dataset, spec: DataSpec) -> None:
        """Describe the columns as `spec` does."""
        assert isinstance(data, TableData)
        data.describe(columns_of(spec))

    def show(self, samples: Batch, conditions: Sequence[str], path: Path) -> None:
        """The distribution of each column, over that of the data."""
        self.frame_of(samples)  # refuses what is not finite
        cells = Cells(self.columns, self.plan)
        save_figure(marginals(cells(samples)["features"], cells.cells), path)

    def illustrate(self, real: Batch, fake: Batch, out: Path) -> list[Path]:
        """The distributions of the columns, what they have to do with each other, and all rows as points on a plane."""
        cells = Cells(self.columns, self.plan).cells
        names, few = [cell.column.name for cell in cells], cells[:RELATED]
        left, right = (associations(side) for side in coded(real["features"], fake["features"], few))
        figures = {"columns": marginals(fake["features"], cells), "associations": matrices(left, right, names)}
        figures["cloud"] = cloud(real["features"], fake["features"])
        for name, figure in figures.items():
            save_figure(figure, out / f"{name}.png")
        return [out / f"{name}.png" for name in figures]

    def save(self, samples: Iterable[Batch], conditions: Sequence[str], out: Path, form: str) -> list[Path]:
        """`csv`, `parquet`, `xlsx`: a table as the data's, with its columns in their order; `sheet`: one picture."""
        if form == "sheet":
            self.show(Batch(data=torch.cat([batch["data"] for batch in samples])), conditions, out)
        elif form == "csv":
            with whole_file(out) as stream:
                for number, frame in enumerate(self._frames(samples)):
                    stream.write(csv_text(frame, header=number == 0).encode())
        elif form == "xlsx":
            with whole_file(out) as stream:
                write_workbook(self._frames(samples), stream, out)
        else:
            self._save_parquet(samples, out)
        return [out]

    def frame_of(self, samples: Batch, start: int = 0) -> DataFrame:
        """Encoded rows as a table of the columns' own values and types. start: rows before these. Raises UserError."""
        own = {"rows": samples.get("row"), "numbers": samples.get("numbers")}
        frame = decode(samples["data"], self.columns, start, **own)
        return frame if self.plan is None else self.plan.backward(frame)

    def open_features(self, which: str, data: Dataset, progress: Progress | None = None) -> Cells:
        """See `domains.table.cells`."""
        return open_features(which, columns_of(data.spec), plan_of(data.spec))

    def open_reference(
        self, source: str, options: Mapping[str, Any], spec: DataSpec, progress: Progress | None = None
    ) -> TableData:
        """The run's own data as it was trained on, or another table with its columns, coded as it is."""
        if not is_database(source):
            options = {**options, "query": None}  # which the training data alone are chosen by
        return open_table(_options({**options, "source": source}), columns_of(spec), plan_of(spec), progress=progress)

    def open_samples(
        self, source: str, real: str, progress: Progress | None = None, **options: Any
    ) -> tuple[TableData, TableData]:
        """Files of samples and of data with the same columns, coded as the data are; options: those of the `data` section."""
        data = self.open_data({**options, "source": real}, progress)
        known = columns_of(data.spec), plan_of(data.spec)
        return open_table(_options({**options, "source": source}), *known, progress=progress), data

    def check(self, source: str, progress: Progress | None = None, **options: Any) -> Any:
        """See `domains.table.check`. options: those of the `data` section."""
        return check_table(_options({**options, "source": source}))

    def prepare(self, source: str, out: Path, progress: Progress | None = None, **options: Any) -> Any:
        """Tables are read as they are: there is nothing to prepare."""
        raise UserError("tables need no preparation: columns are described and coded when a training reads them")

    def _frames(self, samples: Iterable[Batch]) -> Iterator[DataFrame]:
        start = 0
        for batch in samples:
            yield self.frame_of(batch, start)
            start += batch.count

    def _save_parquet(self, samples: Iterable[Batch], out: Path) -> None:
        try:
            import pyarrow
            import pyarrow.parquet as parquet
        except ImportError:
            raise missing_extra("pyarrow", "table", "writing Parquet") from None
        tables = (pyarrow.Table.from_pandas(frame, preserve_index=False) for frame in self._frames(samples))
        with whole_file(out) as stream:
            first = next(tables)
            with parquet.ParquetWriter(stream, first.schema) as writer:
                writer.write_table(first)
                for table in tables:
                    writer.write_table(table.cast(first.schema))


def _options(options: Mapping[str, Any]) -> TableOptions:
    return TableOptions(**validate(TableOptions, options, where="data"))
