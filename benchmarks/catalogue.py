"""Every benchmark, in the order of the table."""

from __future__ import annotations

from benchmarks import (
    capture_many,
    capture_one,
    claim_settle,
    claim_settle_retries,
    coming_home,
    due_backlog,
    durable_postgres_pgqueuer,
    durable_postgres_procrastinate,
    durable_sqlite_huey,
    durable_sqlite_persist_queue,
    import_time,
    many_subscriptions,
    memory,
    one_handler_abxbus,
    one_handler_blinker,
    one_handler_bubus,
    one_handler_open_event,
    one_handler_pyee,
    pause_check,
    queue_drain,
    retry_worker,
    ten_handlers,
    ten_handlers_serial,
    ten_handlers_serial_trio,
    ten_handlers_trio,
    two_workers,
)

BENCHMARKS = tuple(
    module.BENCHMARK
    for module in (
        one_handler_blinker,
        one_handler_open_event,
        one_handler_pyee,
        one_handler_abxbus,
        one_handler_bubus,
        ten_handlers,
        ten_handlers_serial,
        ten_handlers_trio,
        ten_handlers_serial_trio,
        queue_drain,
        capture_many,
        capture_one,
        durable_sqlite_huey,
        durable_sqlite_persist_queue,
        claim_settle,
        claim_settle_retries,
        due_backlog,
        retry_worker,
        coming_home,
        two_workers,
        durable_postgres_pgqueuer,
        durable_postgres_procrastinate,
        many_subscriptions,
        pause_check,
        import_time,
        memory,
    )
)
