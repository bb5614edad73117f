"""Drivers of databases and search engines, and what maps objects onto them."""

from __future__ import annotations

from eventbus.classify.kinds import Kind

TELLS: dict[str, dict[Kind, str]] = {
    "aerospike": {Kind.CONTENTION: "RecordBusy RecordGenerationError", Kind.RESOURCE: "DeviceOverload"},
    "alembic": {Kind.BUG: "CommandError ResolutionError RangeNotAncestorError MultipleHeads"},
    "asyncpg": {
        Kind.CONNECTION: "ConnectionDoesNotExistError ConnectionFailureError",
        Kind.BUG: "InterfaceError InternalClientError",
        Kind.CONFLICT: "IntegrityConstraintViolationError UniqueViolationError",
    },
    "bson": {Kind.VALIDATION: "BSONError InvalidBSON InvalidDocument InvalidId InvalidStringData"},
    "cassandra": {
        Kind.TIMEOUT: "Timeout ReadTimeout WriteTimeout OperationTimedOut RetryableRequestError",
        Kind.UNAVAILABLE: "Unavailable NoHostAvailable ReadFailure WriteFailure CoordinationFailure",
        Kind.BUG: "InvalidRequest ConfigurationException FunctionFailure UnsupportedOperation "
        "SyntaxException "
        "UnresolvableContactPoints",
        Kind.CONFLICT: "AlreadyExists LWTException",
        Kind.PERMISSION: "Unauthorized AuthenticationFailed",
    },
    "couchbase": {
        Kind.CONFLICT: "DocumentExistsException CasMismatchException DurabilityImpossibleException",
        Kind.CONTENTION: "DocumentLockedException",
    },
    "django.http": {Kind.NOT_FOUND: "Http404", Kind.CONNECTION: "UnreadablePostError"},
    "django.urls": {Kind.NOT_FOUND: "Resolver404", Kind.BUG: "NoReverseMatch"},
    "django.core": {
        Kind.NOT_FOUND: "Http404 ObjectDoesNotExist EmptyResultSet ViewDoesNotExist",
        Kind.CONFLICT: "MultipleObjectsReturned",
        Kind.BUG: "FieldDoesNotExist FieldError ImproperlyConfigured AppRegistryNotReady MiddlewareNotUsed "
        "SynchronousOnlyOperation",
        Kind.VALIDATION: "SuspiciousOperation ValidationError BadRequest TooManyFieldsSent RequestDataTooBig",
        Kind.PERMISSION: "PermissionDenied DisallowedHost DisallowedRedirect",
    },
    "django.db": {Kind.BUG: "TransactionManagementError", Kind.CONFLICT: "ProtectedError RestrictedError"},
    "hazelcast": {
        Kind.CONNECTION: "HazelcastIOError HazelcastClientNotActiveError",
        Kind.UNAVAILABLE: "TargetNotMemberError MemberLeftError HazelcastInstanceNotActiveError "
        "PartitionMigratingError "
        "CallerNotMemberError SplitBrainProtectionError LeaderDemotedError TargetNotReplicaError",
        Kind.CONTENTION: "LockOwnershipLostError StaleAppendRequestError",
    },
    "duckdb": {
        Kind.CONFLICT: "ConstraintException",
        Kind.VALIDATION: "ConversionException OutOfRangeException TypeMismatchException InvalidTypeException "
        "InvalidInputException",
        Kind.CONTENTION: "TransactionException",
        Kind.TIMEOUT: "InterruptException",
        Kind.CONNECTION: "ConnectionException",
        Kind.RESOURCE: "OutOfMemoryException FatalException",
        Kind.PERMISSION: "PermissionException",
        Kind.BUG: "CatalogException BinderException ParserException SyntaxException NotImplementedException "
        "InternalException SequenceException DependencyException",
    },
    "elasticsearch": {Kind.EXTERNAL_API: "UnsupportedProductError"},
    "elastic_transport": {
        Kind.TIMEOUT: "ConnectionTimeout",
        Kind.EXTERNAL_API: "SerializationError",
        Kind.PERMISSION: "TlsError",
    },
    "lmdb": {Kind.RESOURCE: "MapFullError DbsFullError ReadersFullError", Kind.PERMISSION: "ReadonlyError"},
    "mongoengine": {
        Kind.NOT_FOUND: "DoesNotExist",
        Kind.CONFLICT: "NotUniqueError MultipleObjectsReturned SaveConditionError",
        Kind.BUG: "FieldDoesNotExist LookUpError InvalidQueryError InvalidCollectionError",
        Kind.VALIDATION: "ValidationError InvalidDocumentError",
    },
    "neo4j": {
        Kind.PERMISSION: "AuthError TokenExpired TokenExpiredRetry Forbidden AuthConfigurationError "
        "CertificateConfigurationError",
        Kind.BUG: "CypherSyntaxError CypherTypeError ConfigurationError TransactionError ResultConsumedError",
        Kind.CONFLICT: "ConstraintError",
        Kind.UNAVAILABLE: "ServiceUnavailable ReadServiceUnavailable WriteServiceUnavailable SessionExpired "
        "DatabaseUnavailable NotALeader ForbiddenOnReadOnlyDatabase RoutingServiceUnavailable",
        Kind.CONNECTION: "IncompleteCommit",
        Kind.NOT_FOUND: "ResultNotSingleError",
    },
    "qdrant_client": {Kind.RATE_LIMIT: "ResourceExhaustedResponse"},
    "opensearchpy": {
        Kind.TIMEOUT: "ConnectionTimeout",
        Kind.EXTERNAL_API: "SerializationError",
        Kind.PERMISSION: "SSLError",
    },
    "orjson": {Kind.VALIDATION: "JSONEncodeError JSONDecodeError"},
    "peewee": {Kind.CONFLICT: "IntegrityError", Kind.NOT_FOUND: "DoesNotExist"},
    "pony": {
        Kind.CONTENTION: "OptimisticCheckError UnrepeatableReadError",
        Kind.CONFLICT: "CacheIndexError ConstraintError TransactionIntegrityError MultipleObjectsFoundError",
        Kind.NOT_FOUND: "ObjectNotFound RowNotFound",
    },
    "psycopg2": {
        Kind.TIMEOUT: "QueryCanceled QueryCanceledError extensions.QueryCanceledError",
        Kind.BUG: "SyntaxError InFailedSqlTransaction InvalidCatalogName InvalidSchemaName "
        "CardinalityViolation "
        "SyntaxErrorOrAccessRuleViolation DatatypeMismatch FeatureNotSupported UndefinedParameter",
        Kind.RESOURCE: "ConfigurationLimitExceeded PoolError",
        Kind.UNAVAILABLE: "CannotConnectNow ReadOnlySqlTransaction",
        Kind.CONTENTION: "TransactionRollback TransactionRollbackError",
        Kind.VALIDATION: "RaiseException",
    },
    "psycopg": {Kind.TIMEOUT: "ConnectionTimeout QueryCanceled"},
    "psycopg_pool": {
        Kind.TIMEOUT: "PoolTimeout",
        Kind.RATE_LIMIT: "TooManyRequests",
        Kind.CONNECTION: "PoolClosed",
    },
    "pymongo": {
        Kind.TIMEOUT: "NetworkTimeout ExecutionTimeout WTimeoutError ServerSelectionTimeoutError "
        "WaitQueueTimeoutError",
        Kind.CONFLICT: "DuplicateKeyError",
        Kind.UNAVAILABLE: "NotPrimaryError NotMasterError",
        Kind.RESOURCE: "ExceededMaxWaiters",
        Kind.BUG: "ConfigurationError InvalidOperation InvalidName CollectionInvalid InvalidURI",
        Kind.NOT_FOUND: "CursorNotFound",
        Kind.VALIDATION: "DocumentTooLarge",
    },
    "gridfs": {Kind.NOT_FOUND: "NoFile", Kind.CONFLICT: "FileExists"},
    "rethinkdb": {Kind.UNAVAILABLE: "ReqlAvailabilityError"},
    "sqlalchemy": {
        Kind.TIMEOUT: "TimeoutError",
        Kind.NOT_FOUND: "NoResultFound",
        Kind.CONFLICT: "MultipleResultsFound",
        Kind.CONTENTION: "StaleDataError",
        Kind.CONNECTION: "DisconnectionError InvalidatePoolError",
        Kind.BUG: (
            "ArgumentError InvalidRequestError CompileError NoReferencedTableError NoReferencedColumnError "
            "NoSuchTableError NoSuchColumnError NoSuchModuleError UnboundExecutionError "
            "DetachedInstanceError "
            "UnmappedError UnmappedClassError UnmappedInstanceError ObjectNotExecutableError "
            "CircularDependencyError "
            "AmbiguousForeignKeysError NoForeignKeysError ResourceClosedError PendingRollbackError "
            "MissingGreenlet FlushError AwaitRequired UnsupportedCompilationError IdentifierError "
            "NoInspectionAvailable "
            "IllegalStateChangeError UnreflectableTableError DuplicateColumnError"
        ),
    },
    "tortoise": {
        Kind.NOT_FOUND: "DoesNotExist ObjectDoesNotExistError",
        Kind.CONFLICT: "IntegrityError MultipleObjectsReturned",
        Kind.BUG: "ConfigurationError FieldError ParamsError NoValuesFetched "
        "TransactionManagementError UnSupportedError IncompleteInstanceError",
        Kind.CONNECTION: "DBConnectionError",
    },
    "mysql": {Kind.RESOURCE: "PoolError"},
    "trino": {
        Kind.CONNECTION: "TrinoConnectionError",
        Kind.UNAVAILABLE: "Http503Error Http504Error",
        Kind.EXTERNAL_API: "Http502Error",
    },
}

_DBAPI: dict[Kind, str] = {
    Kind.CONFLICT: "IntegrityError",
    Kind.VALIDATION: "DataError",
    Kind.BUG: "ProgrammingError NotSupportedError",
    Kind.CONNECTION: "OperationalError InterfaceError",
    Kind.EXTERNAL_API: "InternalError DatabaseError",
}

_DBAPI_DRIVERS = (
    "MySQLdb aiomysql asyncmy clickhouse_connect clickhouse_driver cx_Oracle databases django.db "
    "duckdb ibm_db_dbi mysql oracledb peewee psycopg psycopg2 pymssql pymysql pyodbc "
    "redshift_connector snowflake sqlalchemy trino vertica_python tortoise firebird jaydebeapi pyhive "
    "databricks impala phoenixdb pony"
)

LEANS: dict[str, dict[Kind, str]] = {
    **dict.fromkeys(_DBAPI_DRIVERS.split(), _DBAPI),
    "asyncpg": {
        Kind.EXTERNAL_API: "PostgresError InternalServerError",
        Kind.CONNECTION: "PostgresConnectionError",
    },
    "clickhouse_driver": {**_DBAPI, Kind.CONNECTION: "NetworkError", Kind.EXTERNAL_API: "ServerException"},
    "couchbase": {Kind.EXTERNAL_API: "CouchbaseException"},
    "elastic_transport": {Kind.CONNECTION: "ConnectionError TransportError"},
    "elasticsearch": {Kind.EXTERNAL_API: "ApiError BulkIndexError", Kind.CONNECTION: "TransportError"},
    "mongoengine": {Kind.CONFLICT: "BulkWriteError"},
    "qdrant_client": {Kind.CONNECTION: "ResponseHandlingException"},
    "weaviate": {Kind.EXTERNAL_API: "WeaviateQueryError", Kind.CONNECTION: "WeaviateStartUpError"},
    "influxdb_client": {Kind.EXTERNAL_API: "ApiException InfluxDBError"},
    "neo4j": {
        Kind.VALIDATION: "ClientError",
        Kind.EXTERNAL_API: "DatabaseError Neo4jError",
        Kind.UNAVAILABLE: "TransientError",
    },
    "opensearchpy": {
        Kind.EXTERNAL_API: "TransportError OpenSearchException",
        Kind.CONNECTION: "ConnectionError",
    },
    "pymongo": {
        Kind.CONNECTION: "ConnectionFailure AutoReconnect",
        Kind.EXTERNAL_API: "OperationFailure PyMongoError",
        Kind.CONFLICT: "BulkWriteError",
    },
}

TELLS["_duckdb"] = TELLS["duckdb"]
LEANS["_duckdb"] = LEANS["duckdb"] = {
    **_DBAPI,
    Kind.RESOURCE: "IOException",
    Kind.EXTERNAL_API: "HTTPException Error",
}

SILENT: dict[str, str] = {"sqlalchemy": "DBAPIError StatementError SQLAlchemyError"}
