"""Events, and a handler to step through, for the tests of order."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import anyio
from keeping import KeepingDlq
from pydantic import BaseModel, ConfigDict, SecretStr

from eventbus import EventBus


class Step(BaseModel):
    of: str
    number: int = 0


class Private(Step):
    password: SecretStr | None = None


@dataclass
class Flat:
    of: Any


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


def make_bus(dlq: KeepingDlq | None = None, **settings: Any) -> EventBus:
    return EventBus(dlq=dlq, **settings)  # type: ignore[arg-type]  # a stand-in


class Stepper:
    """A handler whose runs end when they are told to, and that tells of each."""

    def __init__(self) -> None:
        self.began: list[int] = []
        self.ended: list[int] = []
        self.goes: dict[int, anyio.Event] = defaultdict(anyio.Event)
        self.failing: dict[int, Exception] = {}
        self.now: dict[str, int] = defaultdict(int)
        self.most = 0

    async def __call__(self, step: Step) -> None:
        self.began.append(step.number)
        self.now[step.of] += 1
        self.most = max(self.most, self.now[step.of])
        try:
            await self.goes[step.number].wait()
            if step.number in self.failing:
                raise self.failing[step.number]
            self.ended.append(step.number)
        finally:
            self.now[step.of] -= 1

    def let(self, *numbers: int) -> None:
        for number in numbers:
            self.goes[number].set()


async def nothing(_event: Any) -> None:
    pass


async def settled() -> None:
    await anyio.wait_all_tasks_blocked()
