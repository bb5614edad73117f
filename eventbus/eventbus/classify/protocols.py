"""What clients of other protocols carry: AMQP, Kafka, Redis, gRPC, SMTP, FTP, TLS, the operating system."""

from __future__ import annotations

import re
from typing import Any

from eventbus.classify.coded import GRPC, Evidence, kind_of_code
from eventbus.classify.errnos import kind_of_errno
from eventbus.classify.kinds import Kind
from eventbus.classify.reading import args_of, attribute, is_named, listed, number, present, text_of, word

_AMQP = {
    311: Kind.VALIDATION,
    312: Kind.NOT_FOUND,
    313: Kind.UNAVAILABLE,
    320: Kind.CONNECTION,
    402: Kind.VALIDATION,
    403: Kind.PERMISSION,
    404: Kind.NOT_FOUND,
    405: Kind.CONTENTION,
    406: Kind.CONFLICT,
    501: Kind.BUG,
    502: Kind.BUG,
    503: Kind.BUG,
    504: Kind.BUG,
    505: Kind.BUG,
    506: Kind.RESOURCE,
    530: Kind.PERMISSION,
    540: Kind.BUG,
    541: Kind.EXTERNAL_API,
}

_MAIL = {
    421: Kind.UNAVAILABLE,
    422: Kind.RESOURCE,
    450: Kind.UNAVAILABLE,
    451: Kind.UNAVAILABLE,
    452: Kind.RESOURCE,
    454: Kind.UNAVAILABLE,
    500: Kind.BUG,
    502: Kind.BUG,
    503: Kind.BUG,
    530: Kind.PERMISSION,
    534: Kind.PERMISSION,
    535: Kind.PERMISSION,
    538: Kind.PERMISSION,
    550: Kind.NOT_FOUND,
    551: Kind.NOT_FOUND,
    552: Kind.QUOTA_EXCEEDED,
}

_FILES = {
    421: Kind.UNAVAILABLE,
    425: Kind.CONNECTION,
    426: Kind.CONNECTION,
    430: Kind.PERMISSION,
    450: Kind.CONTENTION,
    451: Kind.EXTERNAL_API,
    452: Kind.RESOURCE,
    530: Kind.PERMISSION,
    532: Kind.PERMISSION,
    550: Kind.NOT_FOUND,
    552: Kind.RESOURCE,
    553: Kind.PERMISSION,
}

_KAFKA = {
    "_MSG_TIMED_OUT": Kind.TIMEOUT,
    "_ALL_BROKERS_DOWN": Kind.CONNECTION,
    "_TRANSPORT": Kind.CONNECTION,
    "_RESOLVE": Kind.CONNECTION,
    "_FAIL": Kind.CONNECTION,
    "_QUEUE_FULL": Kind.RESOURCE,
    "_SSL": Kind.CONNECTION,
    "_UNKNOWN_TOPIC": Kind.NOT_FOUND,
    "_UNKNOWN_PARTITION": Kind.NOT_FOUND,
    "_NO_OFFSET": Kind.NOT_FOUND,
    "_FENCED": Kind.CONTENTION,
    "INVALID_PRODUCER_EPOCH": Kind.CONTENTION,
    "_STATE": Kind.BUG,
    "_CONFLICT": Kind.BUG,
    "_INVALID_ARG": Kind.BUG,
    "UNKNOWN_TOPIC_OR_PART": Kind.NOT_FOUND,
    "OFFSET_OUT_OF_RANGE": Kind.NOT_FOUND,
    "NOT_ENOUGH_REPLICAS": Kind.UNAVAILABLE,
    "NOT_ENOUGH_REPLICAS_AFTER_APPEND": Kind.UNAVAILABLE,
    "ILLEGAL_GENERATION": Kind.CONTENTION,
    "UNKNOWN_MEMBER_ID": Kind.CONTENTION,
    "REBALANCE_IN_PROGRESS": Kind.CONTENTION,
    "INVALID_MSG": Kind.VALIDATION,
    "KAFKA_STORAGE_ERROR": Kind.RESOURCE,
    "THROTTLING_QUOTA_EXCEEDED": Kind.RATE_LIMIT,
}

_KAFKA_ERRORS = (("cimpl", "KafkaError"), ("confluent_kafka.cimpl", "KafkaError"))

_REDIS = {
    "BUSYGROUP": Kind.CONFLICT,
    "BUSYKEY": Kind.CONFLICT,
    "BUSY": Kind.UNAVAILABLE,
    "CLUSTERDOWN": Kind.UNAVAILABLE,
    "CROSSSLOT": Kind.BUG,
    "EXECABORT": Kind.BUG,
    "LOADING": Kind.UNAVAILABLE,
    "MASTERDOWN": Kind.UNAVAILABLE,
    "MISCONF": Kind.RESOURCE,
    "NOAUTH": Kind.PERMISSION,
    "NOGROUP": Kind.NOT_FOUND,
    "NOPERM": Kind.PERMISSION,
    "NOREPLICAS": Kind.UNAVAILABLE,
    "NOSCRIPT": Kind.NOT_FOUND,
    "OOM": Kind.RESOURCE,
    "READONLY": Kind.UNAVAILABLE,
    "TRYAGAIN": Kind.UNAVAILABLE,
    "UNBLOCKED": Kind.UNAVAILABLE,
    "WRONGPASS": Kind.PERMISSION,
    "WRONGTYPE": Kind.BUG,
}
_REDIS_ERR = (
    (r"max number of clients", Kind.RESOURCE),
    (r"no password|invalid password|operation not permitted|AUTH", Kind.PERMISSION),
    (r"not an integer|not a (?:valid )?float|out of range|exceeds|overflow|invalid", Kind.VALIDATION),
    (r"no such key", Kind.NOT_FOUND),
    (r".", Kind.BUG),
)

_ERRNO = vars(OSError)["errno"].__get__


def operating_system(error: BaseException) -> Evidence | None:
    """Read the error number of an ``OSError``."""
    if not issubclass(type(error), OSError):
        return None
    code = number(_ERRNO(error))
    return None if code is None else Evidence(kind_of_errno(code), str(code))


def numbered(error: BaseException) -> Evidence | None:
    """Read an error number of the operating system where no ``OSError`` carries it, as in ZeroMQ."""
    code = number(attribute(error, "errno")) if present(error, ("errno",)) else None
    return None if code is None else Evidence(kind_of_errno(code), str(code))


def tls(error: BaseException) -> Evidence | None:
    """Read OpenSSL's reason: a certificate that is refused, a file that holds none, else the connection."""
    reason = attribute(error, "reason")
    if re.search(r"\bPEM\b|no start line|NO_START_LINE", text_of(error)):
        return Evidence(Kind.VALIDATION, "PEM")
    if type(reason) is not str or not reason:
        return None
    refused = "CERTIFICATE" in reason or "UNKNOWN_CA" in reason
    return Evidence(Kind.PERMISSION if refused else Kind.CONNECTION, reason[:64])


def grpc(error: BaseException) -> Evidence | None:
    """Read gRPC's status; ``code()`` is called, of grpcio's own classes only."""
    code = attribute(error, "code")
    if callable(code):
        try:
            code = code()
        except BaseException:  # a test's double, perhaps
            code = None
    name = word(code)
    if name is None:
        return None
    kind = GRPC.get(name)
    if kind is Kind.RATE_LIMIT and re.search(r"quota|per day|billing", text_of(error), re.IGNORECASE):
        kind = Kind.QUOTA_EXCEEDED
    return Evidence(kind, name)


def amqp(error: BaseException) -> Evidence | None:
    """Read AMQP's reply code, whose numbers only look like HTTP's."""
    for value in (attribute(error, "reply_code"), attribute(error, "code"), *args_of(error)[:1]):
        code = number(value)
        if code is not None and code in _AMQP:
            return Evidence(_AMQP[code], str(code))
    return None


def kafka(error: BaseException) -> Evidence | None:
    """Read the code of librdkafka from the ``KafkaError`` in an exception, by its documented methods."""
    for value in args_of(error)[:1]:
        if is_named(value, *_KAFKA_ERRORS):
            name = word(value.name())
            if name is not None:
                kind = _KAFKA.get(name) or kind_of_code(name)
                return Evidence(kind or (Kind.UNAVAILABLE if value.retriable() is True else None), name)
    return None


def redis(error: BaseException) -> Evidence | None:
    """Read the word in capitals with which Redis begins an error."""
    text = text_of(error)
    prefix, _, rest = text.partition(" ")
    if prefix == "ERR":
        kind = next((kind for pattern, kind in _REDIS_ERR if re.search(pattern, rest)), None)
        return Evidence(kind, prefix)
    kind = _REDIS.get(prefix)
    return None if kind is None else Evidence(kind, prefix)


def mail(error: BaseException) -> Evidence | None:
    """Read SMTP's reply code (RFC 5321): 4xx may pass later, 5xx will not."""
    code = number(attribute(error, "smtp_code")) or number(attribute(error, "code"))
    if code is None:
        code = _of_recipients(attribute(error, "recipients"))
    if code is None or not 400 <= code <= 599:
        return None
    return Evidence(_MAIL.get(code) or (Kind.UNAVAILABLE if code < 500 else Kind.VALIDATION), str(code))


def _of_recipients(recipients: Any) -> int | None:
    """Return the code of the first recipient that was refused: smtplib has a dict, aiosmtplib a list."""
    for answer in listed(recipients)[:1]:
        return number(attribute(answer, "code")) or number(next(iter(listed(answer)), None))
    return None


def files(error: BaseException) -> Evidence | None:
    """Read FTP's reply code (RFC 959), with which the first argument of ftplib's errors begins."""
    args = listed(attribute(error, "received_codes")) or args_of(error)
    if not args or not issubclass(type(args[0]), str):
        return None
    digits = str.__getitem__(args[0], slice(3))
    if not (digits.isascii() and digits.isdigit()):
        return None
    code = int(digits)
    return Evidence(_FILES.get(code) or (Kind.UNAVAILABLE if code < 500 else Kind.VALIDATION), digits)
