"""Clients of HTTP and of what runs over it, and of sockets, mail, remote shells and files."""

from __future__ import annotations

from eventbus.classify.kinds import Kind

TELLS: dict[str, dict[Kind, str]] = {
    "aiohttp": {
        Kind.TIMEOUT: "ServerTimeoutError ConnectionTimeoutError SocketTimeoutError",
        Kind.CONNECTION: "ServerDisconnectedError ClientPayloadError ClientConnectionResetError",
        Kind.PERMISSION: "ClientConnectorCertificateError",
        Kind.EXTERNAL_API: "ContentTypeError TooManyRedirects",
        Kind.VALIDATION: "InvalidURL NonHttpUrlClientError InvalidUrlClientError",
    },
    "asyncssh": {
        Kind.PERMISSION: "HostKeyNotVerifiable KeyExchangeFailed PermissionDenied IllegalUserName",
        Kind.CONNECTION: "ConnectionLost DisconnectError ProtocolError MACError CompressionError "
        "SFTPNoConnection "
        "SFTPConnectionLost",
        Kind.RESOURCE: "SFTPNoSpaceOnFilesystem ResourceShortage SFTPQuotaExceeded",
        Kind.CONTENTION: "SFTPLockConflict SFTPByteRangeLockConflict SFTPByteRangeLockRefused",
        Kind.CONFLICT: "SFTPFileAlreadyExists SFTPDirNotEmpty",
        Kind.NOT_FOUND: "SFTPNoSuchFile SFTPNoSuchPath SFTPNoMedia",
    },
    "bleak": {Kind.NOT_FOUND: "BleakDeviceNotFoundError"},
    "dns": {
        Kind.NOT_FOUND: "NXDOMAIN NoAnswer YXDOMAIN",
        Kind.TIMEOUT: "Timeout LifetimeTimeout",
        Kind.UNAVAILABLE: "NoNameservers NoResolverConfiguration NoRootSOA",
        Kind.VALIDATION: "EmptyLabel LabelTooLong NameTooLong BadEscape SyntaxError FormError NoParent",
    },
    "docker": {
        Kind.NOT_FOUND: "ImageNotFound NotFound NullResource",
        Kind.EXTERNAL_API: "ContainerError BuildError ImageLoadError",
        Kind.VALIDATION: "InvalidVersion InvalidRepository InvalidConfigFile InvalidArgument",
        Kind.CONNECTION: "DockerException.ConnectionError",
    },
    "git": {Kind.NOT_FOUND: "NoSuchPathError InvalidGitRepositoryError"},
    "gql": {
        Kind.CONNECTION: "TransportClosed TransportConnectionFailed",
        Kind.EXTERNAL_API: "TransportProtocolError",
    },
    "graphql": {Kind.VALIDATION: "GraphQLSyntaxError"},
    "h11": {Kind.EXTERNAL_API: "RemoteProtocolError", Kind.BUG: "LocalProtocolError"},
    "h2": {
        Kind.CONNECTION: "ProtocolError StreamClosedError ConnectionError",
        Kind.RATE_LIMIT: "TooManyStreamsError",
        Kind.UNAVAILABLE: "NoAvailableStreamIDError",
    },
    "httpcore": {Kind.BUG: "LocalProtocolError", Kind.VALIDATION: "UnsupportedProtocol"},
    "httpx": {
        Kind.EXTERNAL_API: "TooManyRedirects DecodingError",
        Kind.VALIDATION: "UnsupportedProtocol InvalidURL CookieConflict",
        Kind.BUG: "LocalProtocolError StreamError",
    },
    "mechanize": {Kind.NOT_FOUND: "LinkNotFoundError"},
    "paramiko": {
        Kind.PERMISSION: "AuthenticationException BadHostKeyException PasswordRequiredException",
        Kind.CONNECTION: "NoValidConnectionsError ProxyCommandFailure IncompatiblePeer",
        Kind.BUG: "ConfigParseError CouldNotCanonicalize MessageOrderError",
    },
    "requests": {
        Kind.TIMEOUT: "Timeout ConnectTimeout ReadTimeout",
        Kind.CONNECTION: "ChunkedEncodingError ContentDecodingError",
        Kind.EXTERNAL_API: "TooManyRedirects JSONDecodeError InvalidJSONError",
        Kind.VALIDATION: "MissingSchema InvalidSchema InvalidURL InvalidHeader InvalidProxyURL "
        "UnrewindableBodyError",
        Kind.BUG: "StreamConsumedError",
    },
    "niquests": {
        Kind.TIMEOUT: "Timeout ConnectTimeout ReadTimeout",
        Kind.CONNECTION: "ChunkedEncodingError ContentDecodingError",
        Kind.EXTERNAL_API: "TooManyRedirects JSONDecodeError InvalidJSONError",
        Kind.VALIDATION: "MissingSchema InvalidSchema InvalidURL InvalidHeader InvalidProxyURL",
        Kind.BUG: "StreamConsumedError MultiplexingError",
    },
    "urllib3": {
        Kind.TIMEOUT: "ReadTimeoutError ConnectTimeoutError EmptyPoolError PoolTimeout",
        Kind.VALIDATION: "LocationValueError LocationParseError URLSchemeUnknown ProxySchemeUnknown "
        "ProxySchemeUnsupported InvalidHeader TimeoutStateError",
        Kind.EXTERNAL_API: "BodyNotHttplibCompatible InvalidChunkLength HeaderParsingError DecodeError",
        Kind.CONNECTION: "NewConnectionError NameResolutionError IncompleteRead ProtocolError",
        Kind.RESOURCE: "FullPoolError",
        Kind.BUG: "ClosedPoolError UnrewindableBodyError",
    },
    "tornado": {Kind.CONNECTION: "HTTPStreamClosedError StreamClosedError"},
    "websocket": {
        Kind.CONNECTION: "WebSocketConnectionClosedException WebSocketProxyException "
        "WebSocketAddressException "
        "WebSocketProtocolException",
        Kind.VALIDATION: "WebSocketPayloadException",
    },
    "httplib2": {Kind.CONNECTION: "ServerNotFoundError"},
    "websockets": {
        Kind.CONNECTION: "ConnectionClosed ConnectionClosedError ConnectionClosedOK AbortHandshake "
        "ProtocolError "
        "ProxyError",
        Kind.EXTERNAL_API: "InvalidMessage InvalidUpgrade InvalidHeader NegotiationError DuplicateParameter",
        Kind.VALIDATION: "InvalidURI InvalidOrigin PayloadTooBig",
        Kind.BUG: "InvalidState ConcurrencyError",
    },
    "wsproto": {Kind.CONNECTION: "RemoteProtocolError", Kind.BUG: "LocalProtocolError"},
    "zeep": {
        Kind.VALIDATION: "ValidationError",
        Kind.EXTERNAL_API: "XMLParseError XMLSyntaxError UnexpectedElementError",
        Kind.BUG: "LookupError NamespaceError WsdlSyntaxError",
        Kind.PERMISSION: "SignatureVerificationFailed",
    },
}

LEANS: dict[str, dict[Kind, str]] = {
    "aiohttp": {
        Kind.CONNECTION: "ClientConnectionError ClientOSError ClientError ClientConnectorError "
        "ClientConnectorSSLError "
        "ClientProxyConnectionError ClientConnectorDNSError ClientSSLError",
        Kind.EXTERNAL_API: "ClientResponseError WSServerHandshakeError ClientHttpProxyError",
    },
    "aiosmtplib": {Kind.EXTERNAL_API: "SMTPException SMTPResponseException"},
    "asyncssh": {
        Kind.CONNECTION: "Error ChannelOpenError",
        Kind.EXTERNAL_API: "SFTPError SFTPFailure ProcessError",
    },
    "docker": {Kind.EXTERNAL_API: "APIError", Kind.CONNECTION: "DockerException"},
    "gql": {Kind.EXTERNAL_API: "TransportError TransportQueryError TransportServerError"},
    "graphql": {Kind.EXTERNAL_API: "GraphQLError"},
    "httpcore": {
        Kind.CONNECTION: "ConnectError ReadError WriteError NetworkError ProxyError "
        "RemoteProtocolError ProtocolError "
        "ConnectionNotAvailable",
    },
    "httpx": {
        Kind.CONNECTION: "ConnectError ReadError WriteError CloseError NetworkError ProxyError "
        "RemoteProtocolError "
        "ProtocolError TransportError RequestError HTTPError",
        Kind.EXTERNAL_API: "HTTPStatusError",
    },
    "niquests": {
        Kind.CONNECTION: "ConnectionError SSLError ProxyError RequestException ConnectionDropped",
        Kind.EXTERNAL_API: "HTTPError",
    },
    "paramiko": {Kind.CONNECTION: "SSHException ChannelException", Kind.EXTERNAL_API: "SFTPError"},
    "pycurl": {Kind.CONNECTION: "error"},
    "requests": {
        Kind.CONNECTION: "ConnectionError SSLError ProxyError RequestException",
        Kind.EXTERNAL_API: "HTTPError",
    },
    "tornado": {Kind.EXTERNAL_API: "HTTPClientError HTTPError"},
    "urllib3": {
        Kind.CONNECTION: "MaxRetryError SSLError ProxyError HTTPError PoolError RequestError HTTPWarning",
    },
    "websocket": {Kind.CONNECTION: "WebSocketException", Kind.EXTERNAL_API: "WebSocketBadStatusException"},
    "websockets": {
        Kind.EXTERNAL_API: "InvalidStatus InvalidStatusCode InvalidHandshake",
        Kind.CONNECTION: "WebSocketException",
    },
    "zeep": {Kind.EXTERNAL_API: "Fault TransportError Error XMLError"},
}

SILENT: dict[str, str] = {
    "requests": "RetryError",
    "niquests": "RetryError",
}
