"""The envelope: an event with its metadata, as handlers, observers and stores see it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from time import perf_counter_ns, time_ns
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from eventbus.errors import InvalidEvent
from eventbus.ids import format_id, sequence

if TYPE_CHECKING:
    from eventbus.event_types import EventType

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class ReplayInfo(NamedTuple):
    """What a handler may know about the redelivery it runs in.

    Attributes:
        dead_letter_id: the letter that is being run again.
        attempt: the number of this run of the handler, counting from 1 over all runs.
        first_failed_at: when the first run failed (aware UTC).
        sandbox: True in a sandbox run, which changes nothing.
    """

    dead_letter_id: str
    attempt: int
    first_failed_at: datetime
    sandbox: bool = False


class Metadata(NamedTuple):
    """What a publisher may say about an event; most events say nothing, and share one value."""

    id: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    source: str | None = None
    tenant: str | None = None
    user_id: str | None = None
    ordering_key: str | None = None
    priority: int | None = None
    tags: tuple[str, ...] = ()
    headers: Mapping[str, str] = NO_HEADERS
    replay: ReplayInfo | None = None


NO_METADATA = Metadata()


class Envelope:
    """An event on its way: immutable, and shared by all handlers of the event.

    The bus makes envelopes. ``Envelope.of`` makes one for a test, and ``bus.publish`` is how to
    send one.
    """

    __slots__ = ("_event_type", "_id", "_metadata", "_number", "_payload", "_time_ns")

    def __init__(
        self,
        event_type: EventType,
        payload: Any,
        time_ns: int,
        number: int,
        metadata: Metadata = NO_METADATA,
    ) -> None:
        self._event_type = event_type
        self._payload = payload
        self._time_ns = time_ns
        self._number = number
        self._metadata = metadata
        self._id = metadata.id

    @classmethod
    def of(cls, event: Any, data: Any = None, /, **metadata: Any) -> Envelope:
        """Make an envelope outside of any bus: for tests, and for handlers called by hand.

        Args:
            event: an event object, or a name with its payload in ``data``.
            data: the payload when ``event`` is a name.
            metadata: the fields of :class:`Metadata`, such as ``tenant="acme"``.

        Raises:
            InvalidEvent: when ``event`` is neither a pydantic model, a dataclass nor a name.
        """
        from eventbus.event_types import EventType  # the two know each other

        event_class: type[Any] = event.__class__
        event_type = EventType.named(event) if isinstance(event, str) else EventType.of_class(event_class)
        payload = data if isinstance(event, str) else event
        return cls(event_type, payload, time_ns(), sequence.next(), Metadata(**metadata))

    @property
    def id(self) -> str:
        """The event's id: a UUIDv7, or what ``publish(id=...)`` was given."""
        if self._id is None:
            self._id = format_id(self._time_ns, self._number)
        return self._id

    @property
    def name(self) -> str:
        """The event's name."""
        return self._event_type.name

    @property
    def version(self) -> int:
        """The version of the event's class, 1 unless it has an ``event_version``."""
        return self._event_type.version

    @property
    def event_type(self) -> EventType:
        """How the event is named, encoded and decoded."""
        return self._event_type

    @property
    def payload(self) -> Any:
        """The event object, or the payload of a named event."""
        return self._payload

    @property
    def occurred_at(self) -> datetime:
        """When the event was published (aware UTC)."""
        return _EPOCH + timedelta(0, 0, self._time_ns // 1000)

    @property
    def occurred_ns(self) -> int:
        """When the event was published, in nanoseconds since the epoch."""
        return self._time_ns

    @property
    def correlation_id(self) -> str:
        """The whole flow: inherited from the parent event; the first event of a flow is its own."""
        return self._metadata.correlation_id or self.id

    @property
    def causation_id(self) -> str | None:
        """The id of the event whose handler published this one, or None."""
        return self._metadata.causation_id

    @property
    def source(self) -> str | None:
        """Who published the event, or None."""
        return self._metadata.source

    @property
    def tenant(self) -> str | None:
        """Whose event it is, inherited from the parent event, or None."""
        return self._metadata.tenant

    @property
    def user_id(self) -> str | None:
        """The user on whose behalf it was published, or None."""
        return self._metadata.user_id

    @property
    def ordering_key(self) -> str | None:
        """The key within which deliveries keep their order, or None."""
        return self._metadata.ordering_key

    @property
    def priority(self) -> int | None:
        """The urgency the publisher gave it, 1 (high) to 10 (low), or None for the handler's."""
        return self._metadata.priority

    @property
    def tags(self) -> tuple[str, ...]:
        """Free words to find its failures by."""
        return self._metadata.tags

    @property
    def headers(self) -> Mapping[str, str]:
        """Free text metadata, such as trace context. Read-only."""
        return self._metadata.headers

    @property
    def replay(self) -> ReplayInfo | None:
        """About the redelivery this is, or None on the first delivery."""
        return self._metadata.replay

    @property
    def metadata(self) -> Metadata:
        """All that the publisher said, as one value."""
        return self._metadata

    def annotate(self, **values: Any) -> None:
        """Keep context of the handler's own with a failure of the running delivery.

        The values are kept as JSON, bounded; what JSON can't carry is kept as its ``repr``. Outside
        of a delivery it does nothing.
        """
        from eventbus.context import annotate

        annotate(**values)

    def to_cloudevent(self) -> dict[str, Any]:
        """Return the event as CloudEvents 1.0 JSON (https://cloudevents.io), ready for ``json.dumps``.

        The extension attributes ``correlationid``, ``causationid``, ``tenant``, ``userid``,
        ``orderingkey``, ``priority``, ``tags``, ``headers`` and ``dataversion`` carry the rest.
        """
        from eventbus.cloudevents import to_cloudevent

        return to_cloudevent(self)

    @classmethod
    def from_cloudevent(cls, document: Mapping[str, Any]) -> Envelope:
        """Make an envelope of CloudEvents 1.0 JSON; its payload stays JSON, with no class.

        Raises:
            InvalidEvent: when a required attribute is missing or of a wrong type.
        """
        from eventbus.cloudevents import from_cloudevent

        return from_cloudevent(document)

    def __repr__(self) -> str:
        return f"<Envelope {self.name} {self.id}>"


def envelope_of(event_type: EventType, payload: Any, metadata: Metadata, published: int) -> Envelope:
    """Make the envelope of an event that was published at a reading of ``perf_counter_ns``."""
    occurred = time_ns() - (perf_counter_ns() - published)
    return Envelope(event_type, payload, occurred, sequence.next(), metadata)


_MAX_TEXT = 512
_MAX_SHOWN = 80  # characters of a value in a message
_MAX_TAGS = 32
_MAX_HEADERS_BYTES = 16_384


def checked_metadata(metadata: Metadata) -> Metadata:
    """Return ``metadata`` with its values in their stored types.

    Raises:
        InvalidEvent: for what could not be stored: NUL bytes, lone surrogates, texts over 512
            characters, more than 32 tags, more than 16 KiB of headers, a priority outside 1 to 10.
    """
    for name in ("id", "correlation_id", "causation_id", "source", "tenant", "user_id", "ordering_key"):
        value = getattr(metadata, name)
        if value is not None:
            check_text(name, value)
    priority: object = metadata.priority
    if priority is not None and not (isinstance(priority, int) and 1 <= priority <= 10):
        raise InvalidEvent(f"priority={_shown(priority)} must be an int from 1 (high) to 10 (low)")
    return metadata._replace(tags=_checked_tags(metadata.tags), headers=_checked_headers(metadata.headers))


def check_text(name: str, value: object) -> None:
    """Raise InvalidEvent unless ``value`` is a text of 1 to 512 characters that every store can hold."""
    if not isinstance(value, str) or not value:
        raise InvalidEvent(f"{name}={_shown(value)} must be a text that is not empty")
    if len(value) > _MAX_TEXT:
        raise InvalidEvent(
            f"{name} is {len(value)} characters long, at most {_MAX_TEXT} are kept: {value[:40]!r}..."
        )
    if "\x00" in value or not _is_unicode(value):
        raise InvalidEvent(f"{name}={value[:80]!r} has a NUL or a lone surrogate, which no store can hold")


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # an int of thousands of digits refuses, and a class of the application's own may fail
        return f"<{type(value).__qualname__}>"
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _is_unicode(value: str) -> bool:
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _checked_tags(tags: tuple[str, ...]) -> tuple[str, ...]:
    if len(tags) > _MAX_TAGS:
        raise InvalidEvent(f"{len(tags)} tags are given, at most {_MAX_TAGS} are kept")
    for tag in tags:
        check_text("a tag", tag)
    return tags


def _checked_headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    if not headers:
        return NO_HEADERS
    size = 0
    for name, text in headers.items():
        value: object = text
        check_text("a header's name", name)
        if not isinstance(value, str) or "\x00" in value or not _is_unicode(value):
            raise InvalidEvent(f"header {name!r} must be a text without NUL or lone surrogates")
        size += len(name) + len(value)
    if size > _MAX_HEADERS_BYTES:
        raise InvalidEvent(f"the headers have {size} characters, at most {_MAX_HEADERS_BYTES} are kept")
    return MappingProxyType(dict(headers))
