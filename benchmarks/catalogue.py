"""Every benchmark, in the order of the table."""

from __future__ import annotations

from benchmarks import (
    capture_many,
    capture_one,
    import_time,
    many_subscriptions,
    memory,
    one_handler_abxbus,
    one_handler_blinker,
    one_handler_bubus,
    one_handler_open_event,
    one_handler_pyee,
    queue_drain,
    ten_handlers,
    ten_handlers_serial,
    ten_handlers_serial_trio,
    ten_handlers_trio,
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
        many_subscriptions,
        import_time,
        memory,
    )
)
