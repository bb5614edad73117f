"""What parses, validates and serialises data, and what reads templates and command lines."""

from __future__ import annotations

from eventbus.classify.kinds import Kind

TELLS: dict[str, dict[Kind, str]] = {
    "avro": {
        Kind.VALIDATION: "AvroException AvroTypeException SchemaParseException SchemaResolutionException"
    },
    "cattrs": {
        Kind.VALIDATION: "BaseValidationError ClassValidationError IterableValidationError "
        "ForbiddenExtraKeysError",
        Kind.BUG: "StructureHandlerNotFoundError",
    },
    "cbor2": {Kind.VALIDATION: "CBORError CBORDecodeEOF"},
    "_cbor2": {Kind.VALIDATION: "CBORError CBORDecodeError CBORDecodeEOF CBORDecodeValueError"},
    "cerberus": {Kind.VALIDATION: "DocumentError", Kind.BUG: "SchemaError"},
    "click": {Kind.VALIDATION: "UsageError BadParameter MissingParameter NoSuchOption ClickException"},
    "dateutil": {Kind.VALIDATION: "ParserError"},
    "email_validator": {Kind.VALIDATION: "EmailNotValidError EmailSyntaxError EmailUndeliverableError"},
    "fastapi": {
        Kind.VALIDATION: "RequestValidationError WebSocketRequestValidationError",
        Kind.BUG: "ResponseValidationError FastAPIError DependencyScopeError",
    },
    "fastavro": {Kind.VALIDATION: "SchemaParseException UnknownType ValidationError SchemaResolutionError"},
    "google.protobuf": {Kind.VALIDATION: "DecodeError EncodeError Error"},
    "jinja2": {
        Kind.BUG: "TemplateError TemplateSyntaxError UndefinedError TemplateAssertionError "
        "SecurityError FilterArgumentError",
        Kind.NOT_FOUND: "TemplateNotFound TemplatesNotFound",
    },
    "jsonschema": {
        Kind.VALIDATION: "ValidationError UndefinedTypeCheck FormatError",
        Kind.BUG: "SchemaError UnknownType RefResolutionError _RefResolutionError _WrappedReferencingError",
    },
    "lxml": {Kind.VALIDATION: "LxmlError LxmlSyntaxError ParseError XMLSyntaxError DocumentInvalid"},
    "mako": {Kind.BUG: "SyntaxException CompileException", Kind.NOT_FOUND: "TemplateLookupException"},
    "marshmallow": {
        Kind.VALIDATION: "ValidationError",
        Kind.BUG: "RegistryError StringNotCollectionError FieldInstanceResolutionError",
    },
    "msgpack": {
        Kind.VALIDATION: "UnpackException BufferFull OutOfData FormatError StackError ExtraData "
        "UnpackValueError"
    },
    "msgspec": {Kind.VALIDATION: "MsgspecError DecodeError ValidationError EncodeError"},
    "multipart": {Kind.VALIDATION: "MultipartError ParserError"},
    "numpy": {Kind.VALIDATION: "AxisError DTypePromotionError TooHardError", Kind.BUG: "LinAlgError"},
    "openpyxl": {
        Kind.VALIDATION: "InvalidFileException IllegalCharacterError",
        Kind.BUG: "ReadOnlyWorkbookException",
    },
    "pandas": {
        Kind.VALIDATION: "EmptyDataError ParserError OutOfBoundsDatetime OutOfBoundsTimedelta "
        "IntCastingNaNError "
        "MergeError",
        Kind.BUG: "UnsupportedFunctionCall SpecificationError",
    },
    "PIL": {Kind.VALIDATION: "UnidentifiedImageError DecompressionBombError"},
    "polars": {
        Kind.VALIDATION: "ComputeError InvalidOperationError NoDataError OutOfBoundsError SchemaError "
        "ShapeError "
        "StringCacheMismatchError SchemaFieldNotFoundError",
        Kind.BUG: "ColumnNotFoundError DuplicateError PanicException",
    },
    "pyarrow": {
        Kind.VALIDATION: "ArrowInvalid ArrowTypeError ArrowSerializationError",
        Kind.BUG: "ArrowNotImplementedError ArrowKeyError ArrowIndexError",
        Kind.RESOURCE: "ArrowMemoryError ArrowCapacityError",
    },
    "phonenumbers": {Kind.VALIDATION: "NumberParseException"},
    "pydantic": {
        Kind.VALIDATION: "ValidationError",
        Kind.BUG: "PydanticUserError PydanticUndefinedAnnotation PydanticSchemaGenerationError "
        "PydanticImportError "
        "PydanticInvalidForJsonSchema PydanticForbiddenQualifier PydanticErrorMixin",
    },
    "pydantic_core": {
        Kind.VALIDATION: "ValidationError PydanticCustomError PydanticKnownError PydanticSerializationError "
        "PydanticSerializationUnexpectedValue",
        Kind.BUG: "SchemaError",
    },
    "pyparsing": {Kind.VALIDATION: "ParseBaseException"},
    "pypdf": {Kind.VALIDATION: "PdfReadError PdfStreamError EmptyFileError"},
    "schema": {Kind.VALIDATION: "SchemaError"},
    "toml": {Kind.VALIDATION: "TomlDecodeError"},
    "tomli": {Kind.VALIDATION: "TOMLDecodeError"},
    "voluptuous": {Kind.VALIDATION: "Invalid MultipleInvalid Error", Kind.BUG: "SchemaError"},
    "xmlschema": {
        Kind.VALIDATION: "XMLSchemaValidationError XMLSchemaDecodeError",
        Kind.BUG: "XMLSchemaException",
    },
    "yaml": {Kind.VALIDATION: "YAMLError"},
    "zstandard": {Kind.VALIDATION: "ZstdError"},
    "zstd": {Kind.VALIDATION: "ZstdError"},
}

LEANS: dict[str, dict[Kind, str]] = {
    "attr": {Kind.BUG: "NotAnAttrsClassError FrozenError DefaultAlreadySetError"}
}

SILENT: dict[str, str] = {}
