"""Brokers, queues of tasks, caches and locks."""

from __future__ import annotations

from eventbus.classify.kinds import Kind

TELLS: dict[str, dict[Kind, str]] = {
    "aiokafka": {
        Kind.CONTENTION: "IllegalGenerationError UnknownMemberIdError RebalanceInProgressError "
        "CommitFailedError"
    },
    "_pulsar": {
        Kind.EXTERNAL_API: "UnknownError BrokerMetadataError BrokerPersistenceError",
        Kind.CONNECTION: "LookupError ReadError",
    },
    "aiormq": {Kind.NOT_FOUND: "ChannelNotFoundEntity", Kind.CONTENTION: "ChannelLockedResource"},
    "amqp": {
        Kind.CONTENTION: "ResourceLocked",
        Kind.CONNECTION: "ConnectionForced RecoverableConnectionError",
        Kind.RESOURCE: "ResourceError",
        Kind.PERMISSION: "AccessRefused NotAllowed",
    },
    "arq": {Kind.CONFLICT: "JobExistsException"},
    "celery": {
        Kind.TIMEOUT: "SoftTimeLimitExceeded TimeLimitExceeded TimeoutError",
        Kind.RESOURCE: "WorkerLostError WorkerTerminate",
        Kind.BUG: "ImproperlyConfigured NotRegistered CPendingDeprecationWarning QueueNotFound "
        "IncompleteStream",
        Kind.CONFLICT: "AlreadyRegistered",
        Kind.CONNECTION: "BackendStoreError BackendGetMetaError",
    },
    "billiard": {Kind.TIMEOUT: "SoftTimeLimitExceeded TimeLimitExceeded", Kind.RESOURCE: "WorkerLostError"},
    "confluent_kafka": {
        Kind.VALIDATION: "ValueSerializationError KeySerializationError ValueDeserializationError "
        "KeyDeserializationError SerializationError"
    },
    "diskcache": {Kind.TIMEOUT: "Timeout"},
    "dramatiq": {
        Kind.TIMEOUT: "TimeLimitExceeded ResultTimeout",
        Kind.NOT_FOUND: "ResultMissing ActorNotFound QueueNotFound",
        Kind.RATE_LIMIT: "RateLimitExceeded",
        Kind.CONNECTION: "ConnectionClosed ConnectionFailed",
    },
    "filelock": {Kind.CONTENTION: "Timeout"},
    "fasteners": {Kind.CONTENTION: "AcquireException"},
    "huey": {Kind.CONTENTION: "TaskLockedException", Kind.BUG: "ConfigurationError"},
    "kafka": {
        Kind.CONTENTION: "IllegalGenerationError UnknownMemberIdError RebalanceInProgressError "
        "CommitFailedError",
        Kind.TIMEOUT: "KafkaTimeoutError",
        Kind.UNAVAILABLE: "NoBrokersAvailable",
    },
    "kazoo": {
        Kind.CONTENTION: "BadVersionError LockTimeout",
        Kind.CONNECTION: "ConnectionLoss SessionExpiredError ConnectionClosedError ConnectionDropped "
        "SessionMovedError",
        Kind.NOT_FOUND: "NoNodeError",
        Kind.CONFLICT: "NodeExistsError NotEmptyError NoChildrenForEphemeralsError",
        Kind.PERMISSION: "NoAuthError AuthFailedError InvalidACLError",
        Kind.UNAVAILABLE: "NotReadOnlyCallError",
    },
    "kombu": {
        Kind.VALIDATION: "SerializationError DecodeError EncodeError ContentDisallowed",
        Kind.RESOURCE: "LimitExceeded ConnectionLimitExceeded ChannelLimitExceeded",
        Kind.CONFLICT: "InconsistencyError",
        Kind.BUG: "NotBoundError VersionMismatch",
    },
    "nats": {
        Kind.UNAVAILABLE: "NoRespondersError NoServersError ServiceUnavailableError",
        Kind.RESOURCE: "OutboundBufferLimitError",
        Kind.CONNECTION: "StaleConnectionError ConnectionClosedError UnexpectedEOF "
        "ConnectionReconnectingError ConnectionDrainingError SecureConnRequiredError SecureConnWantedError",
        Kind.VALIDATION: "MaxPayloadError BadSubjectError JsonParseError BadSubscriptionError",
        Kind.RATE_LIMIT: "SlowConsumerError",
        Kind.PERMISSION: "AuthorizationError",
        Kind.TIMEOUT: "FlushTimeoutError DrainTimeoutError TimeoutError FetchTimeoutError",
        Kind.CONFLICT: "MsgAlreadyAckdError KeyWrongLastSequenceError",
        Kind.NOT_FOUND: "NoKeysError KeyDeletedError",
        Kind.BUG: "NoStreamResponseError NotJSMessageError",
    },
    "pika": {
        Kind.CONNECTION: "AMQPHeartbeatTimeout StreamLostError ConnectionOpenAborted "
        "ChannelWrongStateError ConnectionWrongStateError ChannelClosedByClient ConnectionClosedByClient "
        "IncompatibleProtocolError",
        Kind.PERMISSION: "ProbableAuthenticationError AuthenticationError ProbableAccessDeniedError",
        Kind.NOT_FOUND: "UnroutableError",
        Kind.UNAVAILABLE: "NackError ConnectionBlockedTimeout",
        Kind.BUG: "DuplicateConsumerTag DuplicateGetOkCallback ReentrancyError UnsupportedAMQPFieldException",
        Kind.VALIDATION: "BodyTooLongError ShortStringTooLong",
    },
    "portalocker": {Kind.CONTENTION: "LockException AlreadyLocked"},
    "pottery": {
        Kind.CONTENTION: "QuorumNotAchieved ExtendUnlockedLock ReleaseUnlockedLock TooManyExtensions",
        Kind.UNAVAILABLE: "QuorumIsImpossible",
    },
    "pymemcache": {
        Kind.VALIDATION: "MemcacheIllegalInputError MemcacheClientError",
        Kind.EXTERNAL_API: "MemcacheServerError MemcacheUnknownError",
        Kind.CONNECTION: "MemcacheUnexpectedCloseError",
        Kind.BUG: "MemcacheUnknownCommandError",
    },
    "redis": {
        Kind.CONTENTION: "LockError LockNotOwnedError WatchError",
        Kind.UNAVAILABLE: "BusyLoadingError ReadOnlyError ClusterDownError MasterDownError "
        "TryAgainError ClusterError "
        "AskError MovedError SlotNotCoveredError MasterNotFoundError SlaveNotFoundError",
        Kind.RESOURCE: "OutOfMemoryError MaxConnectionsError",
        Kind.PERMISSION: "AuthenticationError AuthenticationWrongNumberOfArgsError NoPermissionError "
        "AuthorizationError",
        Kind.BUG: "ExecAbortError ModuleError ClusterCrossSlotError RedisClusterException",
        Kind.NOT_FOUND: "NoScriptError",
        Kind.VALIDATION: "DataError",
        Kind.TIMEOUT: "TimeoutError",
        Kind.CONNECTION: "InvalidResponse",
    },
    "redis_lock": {
        Kind.CONTENTION: "AlreadyAcquired NotAcquired NotExpirable AlreadyStarted",
        Kind.VALIDATION: "InvalidTimeout",
    },
    "rq": {
        Kind.TIMEOUT: "JobTimeoutException",
        Kind.NOT_FOUND: "NoSuchJobError NoSuchGroupError",
        Kind.CONFLICT: "DuplicateSchedulerError DuplicateJobError",
        Kind.RESOURCE: "ShutDownImminentException WorkHorseKilledException",
    },
    "stomp": {Kind.CONNECTION: "ConnectFailedException NotConnectedException ConnectionClosedException"},
    "taskiq": {Kind.TIMEOUT: "TaskiqResultTimeoutError", Kind.BUG: "TaskBrokerMismatchError"},
    "zmq": {Kind.CONTENTION: "Again", Kind.CONNECTION: "ContextTerminated", Kind.BUG: "NotDone"},
}
TELLS["valkey"] = TELLS["redis"]

LEANS: dict[str, dict[Kind, str]] = {
    "aio_pika": {Kind.CONNECTION: "AMQPError"},
    "aiokafka": {Kind.CONNECTION: "KafkaConnectionError KafkaError"},
    "aiomqtt": {Kind.CONNECTION: "MqttError"},
    "_pulsar": {
        Kind.EXTERNAL_API: "UnknownError BrokerMetadataError BrokerPersistenceError",
        Kind.CONNECTION: "LookupError ReadError",
    },
    "aiormq": {
        Kind.CONNECTION: "AMQPError AMQPConnectionError ConnectionClosed",
        Kind.EXTERNAL_API: "ChannelClosed",
    },
    "amqp": {Kind.CONNECTION: "AMQPError"},
    "amqpstorm": {Kind.CONNECTION: "AMQPError AMQPConnectionError AMQPChannelError"},
    "confluent_kafka": {Kind.EXTERNAL_API: "KafkaException"},
    "cimpl": {Kind.EXTERNAL_API: "KafkaException"},
    "kafka": {Kind.CONNECTION: "KafkaConnectionError KafkaError"},
    "kombu": {Kind.CONNECTION: "OperationalError"},
    "nats": {Kind.CONNECTION: "Error", Kind.EXTERNAL_API: "APIError"},
    "pika": {
        Kind.CONNECTION: "AMQPError AMQPConnectionError AMQPChannelError ConnectionClosedByBroker "
        "ChannelClosedByBroker ConnectionClosed ChannelClosed"
    },
    "redis": {Kind.CONNECTION: "ConnectionError", Kind.BUG: "ResponseError", Kind.EXTERNAL_API: "RedisError"},
}
LEANS["valkey"] = {**LEANS["redis"], Kind.EXTERNAL_API: "ValkeyError"}

SILENT: dict[str, str] = {
    "celery": "Retry MaxRetriesExceededError TaskError TaskRevokedError Reject Ignore",
    "dramatiq": "Retry RetriesExceeded",
    "arq": "Retry JobExecutionFailed",
}
