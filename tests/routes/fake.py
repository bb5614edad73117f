"""TEMPORARY stand-in until the bus exists."""
import contextlib, json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
import anyio, uuid
from eventbus.classify import classify
from eventbus.metrics import Metrics
from eventbus.retry import RetryPolicy
from eventbus.snapshots import snapshot
from eventbus.errors import BusClosed
from eventbus.ids import new_id
from eventbus_dlq.letter import *
from eventbus_dlq.store import Settlement
from eventbus_dlq.letter import Verb, Attempt
from eventbus_dlq.query import DeadLetterQuery
from types import SimpleNamespace

@dataclass
class Outcome:
    state: str; error: Any; attempts: int; dead_letter_id: str
@dataclass
class Operation:
    total: int; done: int; failed: int; skipped: int; state: str

def now(): return datetime.now(UTC)

class DeadLetterQueue:
    def __init__(self, store): self.store = store
    async def dead_letters(self, query, limit=50, cursor=None, order="newest"): return await self.store.find(query, limit=limit, cursor=cursor, order=order)
    async def dead_letter(self, id): return await self.store.get(id)
    async def stats(self, tenants=None): return await self.store.stats(now=now(), tenants=tenants)
    async def resolve(self, id, *, by=None, note=None): return await self.store.change(id, Verb.RESOLVE, now=now(), by=by, note=note)
    async def discard(self, id, *, by=None, note=None): return await self.store.change(id, Verb.DISCARD, now=now(), by=by, note=note)
    async def delete(self, id): await self.store.delete(id)
    async def replay(self, id, *, by=None, note=None):
        [claim] = await self.store.claim([id], owner="x", lease=30, now=now())
        if isinstance(claim, Exception): raise claim
        l = claim.letter
        try:
            await self.bus.handlers[l.event_name](json.loads(l.payload_json))
        except Exception as e:
            rec = snapshot(e, classify(e))
            await self.store.settle([Settlement(lease=claim.lease, state=DeadLetterState.EXHAUSTED, reason=Reason.ATTEMPTS, error=rec, attempt=Attempt(l.attempts, now(), now(), rec), acted_by=by, note=note)], now=now())
            return Outcome("exhausted", e, l.attempts, id)
        except BaseException:
            await self.store.release([claim.lease], now=now()); raise
        await self.store.settle([Settlement(lease=claim.lease, state=DeadLetterState.RESOLVED, acted_by=by, note=note)], now=now())
        return Outcome("resolved", None, l.attempts, id)
    async def replay_all(self, query, *, by=None, note=None):
        assert not query.is_empty or query.is_everything
        ids=[]; c=None
        while True:
            p = await self.store.find(query, cursor=c); ids += [i.id for i in p.items]; c = p.next_cursor
            if c is None: break
        op = Operation(len(ids),0,0,0,"completed")
        for i in ids:
            try: o = await self.replay(i, by=by, note=note)
            except Exception: op.skipped += 1
            else:
                if o.error: op.failed += 1
                else: op.done += 1
        return op

class EventBus:
    def __init__(self, *, dlq=None):
        self.dlq = dlq; self.metrics = Metrics(); self.handlers = {}; self.ids={}; self.tg=None
        if dlq is not None: dlq.bus = self
    def on(self, event, *, id):
        def reg(fn): self.handlers[event]=fn; self.ids[event]=id; return fn
        return reg
    def spawn(self, work):
        if self.tg is None: raise BusClosed("closed")
        self.tg.start_soon(work)
    async def __aenter__(self):
        self.tg = anyio.create_task_group(); await self.tg.__aenter__(); return self
    async def __aexit__(self, *a):
        self.tg.cancel_scope.cancel(); await self.tg.__aexit__(None,None,None); self.tg=None
    @contextlib.asynccontextmanager
    async def lifespan(self, app):
        async with self: yield
    async def publish(self, event, data, *, tenant=None, headers=None):
        self.metrics.published += 1
        c = self.metrics.counters(self.ids[event], event); c.started += 1
        try: await self.handlers[event](data)
        except Exception as e:
            c.failed += 1; c.observe(1000)
            rec = snapshot(e, classify(e)); t = now()
            [i] = await self.dlq.store.add([DeadLetter(id=new_id(), event_id=new_id(), event_name=event, event_version=1, payload_json=json.dumps(data).encode(), occurred_at=t, handler_id=self.ids[event], tenant=tenant, user_id=None, correlation_id=new_id(), causation_id=None, source=None, ordering_key=None, priority=5, headers=headers or {}, tags=(), annotations={}, redelivery=RetryPolicy(attempts=5, delay=60.0), state=DeadLetterState.PENDING, reason=None, attempts=1, retries=0, crashes=0, retry_at=t+timedelta(seconds=60), created_at=t, updated_at=t, last_attempt_at=t, fingerprint="f", error=rec, history=(Attempt(1,t,t,rec),))])
            return SimpleNamespace(deliveries={self.ids[event]: SimpleNamespace(dead_letter_id=i)})
        c.delivered += 1; c.observe(1000)
