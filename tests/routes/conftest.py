"""The shop with its bus running, and a client of its admin."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from admin_shop import Client, Shop, client_of


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    shop = Shop()
    async with shop.bus:
        yield shop


@pytest.fixture
async def admin(shop: Shop) -> AsyncIterator[Client]:
    async with client_of(shop.app()) as client:
        yield client
