"""The standard library, and what stands in for it in async programs."""

from __future__ import annotations

from eventbus.classify.kinds import Kind

TELLS: dict[str, dict[Kind, str]] = {
    "builtins": {
        Kind.TIMEOUT: "TimeoutError",
        Kind.CONNECTION: "ConnectionError EOFError",
        Kind.NOT_FOUND: "FileNotFoundError ProcessLookupError",
        Kind.CONFLICT: "FileExistsError",
        Kind.PERMISSION: "PermissionError",
        Kind.CONTENTION: "BlockingIOError",
        Kind.UNAVAILABLE: "InterruptedError",
        Kind.RESOURCE: "MemoryError",
        Kind.VALIDATION: "ValueError",
        Kind.BUG: (
            "ArithmeticError AssertionError AttributeError BufferError ChildProcessError ImportError "
            "IsADirectoryError LookupError NameError NotADirectoryError NotImplementedError "
            "RecursionError ReferenceError StopAsyncIteration StopIteration SyntaxError "
            "SystemError TypeError Warning"
        ),
    },
    "asyncio": {
        Kind.TIMEOUT: "exceptions.TimeoutError TimeoutError",
        Kind.CONNECTION: "IncompleteReadError",
        Kind.VALIDATION: "LimitOverrunError",
        Kind.RESOURCE: "QueueFull",
        Kind.BUG: "InvalidStateError",
        Kind.CONTENTION: "BrokenBarrierError",
    },
    "anyio": {
        Kind.CONNECTION: "BrokenResourceError ClosedResourceError EndOfStream IncompleteRead "
        "ConnectionFailed",
        Kind.RESOURCE: "BrokenWorkerProcess BrokenWorkerInterpreter BrokenWorkerInterpreterError",
        Kind.CONTENTION: "BusyResourceError WouldBlock",
        Kind.VALIDATION: "DelimiterNotFound",
        Kind.BUG: "NoEventLoopError",
    },
    "trio": {
        Kind.TIMEOUT: "TooSlowError",
        Kind.CONNECTION: "BrokenResourceError ClosedResourceError EndOfChannel",
        Kind.CONTENTION: "BusyResourceError WouldBlock",
        Kind.BUG: "TrioInternalError RunFinishedError",
    },
    "binascii": {Kind.VALIDATION: "Error Incomplete"},
    "bdb": {Kind.BUG: "BdbQuit"},
    "re": {Kind.BUG: "error PatternError"},
    "concurrent.futures": {
        Kind.TIMEOUT: "TimeoutError",
        Kind.RESOURCE: "BrokenExecutor BrokenProcessPool BrokenThreadPool",
        Kind.BUG: "InvalidStateError",
    },
    "configparser": {Kind.BUG: "Error"},
    "csv": {Kind.VALIDATION: "Error"},
    "_csv": {Kind.VALIDATION: "Error"},
    "decimal": {
        Kind.VALIDATION: "InvalidOperation ConversionSyntax Inexact Rounded",
        Kind.BUG: "FloatOperation",
    },
    "email": {Kind.VALIDATION: "MessageError MessageParseError HeaderParseError"},
    "fractions": {Kind.VALIDATION: "Error"},
    "getopt": {Kind.VALIDATION: "GetoptError"},
    "gzip": {Kind.VALIDATION: "BadGzipFile"},
    "http.cookies": {Kind.VALIDATION: "CookieError"},
    "http.client": {
        Kind.CONNECTION: "IncompleteRead RemoteDisconnected",
        Kind.EXTERNAL_API: "BadStatusLine LineTooLong UnknownProtocol UnknownTransferEncoding",
        Kind.VALIDATION: "InvalidURL",
        Kind.BUG: "ImproperConnectionState ResponseNotReady NotConnected UnimplementedFileMode",
    },
    "imaplib": {Kind.CONNECTION: "IMAP4.abort", Kind.PERMISSION: "IMAP4.readonly"},
    "json": {Kind.VALIDATION: "JSONDecodeError"},
    "lzma": {Kind.VALIDATION: "LZMAError"},
    "_lzma": {Kind.VALIDATION: "LZMAError"},
    "multiprocessing": {
        Kind.TIMEOUT: "TimeoutError",
        Kind.PERMISSION: "AuthenticationError",
        Kind.RESOURCE: "BufferTooShort",
    },
    "pickle": {Kind.VALIDATION: "PickleError UnpicklingError PicklingError"},
    "_pickle": {Kind.VALIDATION: "PickleError UnpicklingError PicklingError"},
    "pyexpat": {Kind.VALIDATION: "ExpatError"},
    "queue": {Kind.RESOURCE: "Full"},
    "_queue": {},
    "shutil": {
        Kind.CONFLICT: "SameFileError",
        Kind.VALIDATION: "ReadError RegistryError",
        Kind.BUG: "SpecialFileError",
    },
    "socket": {Kind.CONNECTION: "gaierror herror", Kind.TIMEOUT: "timeout"},
    "sqlite3": {Kind.CONFLICT: "IntegrityError", Kind.VALIDATION: "DataError"},
    "ssl": {Kind.PERMISSION: "SSLCertVerificationError"},
    "struct": {Kind.VALIDATION: "error"},
    "subprocess": {Kind.TIMEOUT: "TimeoutExpired"},
    "tarfile": {Kind.VALIDATION: "TarError"},
    "threading": {Kind.CONTENTION: "BrokenBarrierError"},
    "tomllib": {Kind.VALIDATION: "TOMLDecodeError"},
    "unittest": {Kind.BUG: "SkipTest"},
    "xml": {Kind.VALIDATION: "ParseError SAXException SAXParseException ExpatError DOMException"},
    "xmlrpc": {Kind.EXTERNAL_API: "ResponseError"},
    "zipfile": {Kind.VALIDATION: "BadZipFile LargeZipFile"},
    "zlib": {Kind.VALIDATION: "error"},
    "zoneinfo": {Kind.VALIDATION: "ZoneInfoNotFoundError"},
}

LEANS: dict[str, dict[Kind, str]] = {
    "asyncio": {Kind.NOT_FOUND: "QueueEmpty"},
    "ftplib": {Kind.UNAVAILABLE: "error_temp", Kind.VALIDATION: "error_perm", Kind.EXTERNAL_API: "Error"},
    "http.client": {Kind.EXTERNAL_API: "HTTPException"},
    "imaplib": {Kind.EXTERNAL_API: "IMAP4.error"},
    "poplib": {Kind.EXTERNAL_API: "error_proto"},
    "queue": {Kind.NOT_FOUND: "Empty"},
    "_queue": {Kind.NOT_FOUND: "Empty"},
    "smtplib": {Kind.EXTERNAL_API: "SMTPException"},
    "sqlite3": {
        Kind.BUG: "OperationalError ProgrammingError InterfaceError NotSupportedError InternalError",
        Kind.RESOURCE: "DatabaseError",
    },
    "ssl": {Kind.CONNECTION: "SSLError"},
    "subprocess": {Kind.EXTERNAL_API: "CalledProcessError"},
    "urllib": {Kind.CONNECTION: "URLError ContentTooShortError"},
    "xmlrpc": {Kind.EXTERNAL_API: "Fault Error"},
}

SILENT: dict[str, str] = {
    "builtins": "OSError RuntimeError Exception BaseException BaseExceptionGroup ExceptionGroup",
    "asyncio": "CancelledError SendfileNotAvailableError",
    "concurrent.futures": "CancelledError",
}
