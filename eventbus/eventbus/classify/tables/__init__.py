"""What classes are that their names do not tell, or tell wrongly: by package and qualified name.

Each area has three tables. ``TELLS`` is final; ``LEANS`` is what a class most likely is when its attributes,
its cause and its message say nothing better; ``SILENT`` are names that seem to tell and do not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import ModuleType

from eventbus.classify.kinds import Kind
from eventbus.classify.tables import brokers, clients, clouds, data, databases, security, standard, systems

_AREAS: tuple[ModuleType, ...] = (standard, clients, clouds, databases, brokers, data, security, systems)
_Table = Mapping[str, Mapping[Kind, str]]


def _spread(tables: Iterable[_Table]) -> dict[str, Kind]:
    return {
        f"{package}:{name}": kind
        for table in tables
        for package, kinds in table.items()
        for kind, names in kinds.items()
        for name in names.split()
    }


TELLS: dict[str, Kind] = _spread(area.TELLS for area in _AREAS)
LEANS: dict[str, Kind] = _spread(area.LEANS for area in _AREAS)
SILENT: frozenset[str] = frozenset(
    f"{package}:{name}" for area in _AREAS for package, names in area.SILENT.items() for name in names.split()
)
