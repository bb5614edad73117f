"""Retries, breakers, limiters, frameworks, workers and machines."""

from __future__ import annotations

from eventbus.classify.kinds import Kind

TELLS: dict[str, dict[Kind, str]] = {
    "aiobreaker": {Kind.UNAVAILABLE: "CircuitBreakerError"},
    "aiocoap": {
        Kind.CONNECTION: "NetworkError LibraryShutdown ResolutionError",
        Kind.TIMEOUT: "RequestTimedOut WaitingForClientTimedOut ConRetransmitsExceeded",
        Kind.NOT_FOUND: "NoResource NotFound",
    },
    "apscheduler": {
        Kind.CONFLICT: "ConflictingIdError",
        Kind.NOT_FOUND: "JobLookupError",
        Kind.RESOURCE: "MaxInstancesReachedError",
    },
    "circuitbreaker": {Kind.UNAVAILABLE: "CircuitBreakerError"},
    "eventbus": {
        Kind.TIMEOUT: "HandlerTimeout",
        Kind.UNAVAILABLE: "BusClosed Paused",
        Kind.RATE_LIMIT: "BusFull",
        Kind.NOT_FOUND: "UnknownEvent",
        Kind.VALIDATION: "InvalidEvent PayloadTooLarge",
        Kind.BUG: "DuplicateHandler NoDeadLetterQueue OrderDeadlock",
    },
    "eventbus_dlq": {
        Kind.NOT_FOUND: "DeadLetterNotFound",
        Kind.CONTENTION: "LeaseHeld LeaseLost",
        Kind.UNAVAILABLE: "StoreUnavailable",
    },
    "transitions": {Kind.CONFLICT: "MachineError"},
    "fabric": {Kind.BUG: "NothingToDo"},
    "invoke": {Kind.TIMEOUT: "CommandTimedOut", Kind.PERMISSION: "AuthFailure"},
    "limits": {
        Kind.UNAVAILABLE: "StorageError",
        Kind.BUG: "ConfigurationError",
        Kind.CONTENTION: "ConcurrentUpdateError",
    },
    "netmiko": {
        Kind.TIMEOUT: "NetmikoTimeoutException ReadTimeout",
        Kind.PERMISSION: "NetmikoAuthenticationException",
    },
    "pexpect": {Kind.TIMEOUT: "TIMEOUT", Kind.CONNECTION: "EOF"},
    "psutil": {
        Kind.NOT_FOUND: "NoSuchProcess ZombieProcess",
        Kind.PERMISSION: "AccessDenied",
        Kind.TIMEOUT: "TimeoutExpired",
    },
    "pybreaker": {Kind.UNAVAILABLE: "CircuitBreakerError"},
    "purgatory": {Kind.UNAVAILABLE: "OpenedState"},
    "pymodbus": {
        Kind.CONNECTION: "ConnectionException ModbusIOException",
        Kind.VALIDATION: "ParameterException",
        Kind.NOT_FOUND: "NoSuchSlaveException",
    },
    "pyrate_limiter": {Kind.RATE_LIMIT: "BucketFullException LimiterDelayException"},
    "ratelimit": {Kind.RATE_LIMIT: "RateLimitException"},
    "selenium": {
        Kind.NOT_FOUND: "NoSuchElementException NoSuchWindowException",
        Kind.TIMEOUT: "TimeoutException",
        Kind.CONTENTION: "StaleElementReferenceException",
    },
    "serial": {Kind.TIMEOUT: "SerialTimeoutException", Kind.CONNECTION: "PortNotOpenError"},
    "twisted": {
        Kind.CONNECTION: "ConnectionLost ConnectionDone ConnectionClosed ConnectionAborted "
        "ConnectError DNSLookupError "
        "NoRouteError ResponseNeverReceived RequestTransmissionFailed",
        Kind.TIMEOUT: "TimeoutError TCPTimedOutError",
    },
    "wrapt": {},
}

LEANS: dict[str, dict[Kind, str]] = {
    "serial": {Kind.CONNECTION: "SerialException"},
    "sh": {Kind.EXTERNAL_API: "ErrorReturnCode"},
    "invoke": {Kind.EXTERNAL_API: "UnexpectedExit Failure"},
    "netmiko": {Kind.CONNECTION: "NetmikoBaseException"},
}

SILENT: dict[str, str] = {
    "tenacity": "RetryError TryAgain",
    "retrying": "RetryError",
    "retry": "RetryError",
    "backoff": "RetryError",
    "prefect": "FailedRun CrashedRun",
}
