"""Signatures, tokens, certificates, directories and secrets."""

from __future__ import annotations

from eventbus.classify.kinds import Kind

TELLS: dict[str, dict[Kind, str]] = {
    "OpenSSL": {
        Kind.CONNECTION: "SysCallError ZeroReturnError WantReadError WantWriteError WantX509LookupError"
    },
    "argon2": {
        Kind.PERMISSION: "VerifyMismatchError VerificationError",
        Kind.VALIDATION: "InvalidHash InvalidHashError HashingError",
    },
    "authlib": {Kind.PERMISSION: "JoseError OAuthError OAuth2Error MismatchingStateError"},
    "cryptography": {
        Kind.PERMISSION: "InvalidSignature InvalidToken InvalidKey InvalidTag VerificationError",
        Kind.BUG: "UnsupportedAlgorithm AlreadyFinalized NotYetFinalized AlreadyUpdated InternalError",
        Kind.VALIDATION: "InvalidVersion DuplicateExtension AttributeNotFound ExtensionNotFound",
    },
    "hvac": {
        Kind.NOT_FOUND: "InvalidPath",
        Kind.UNAVAILABLE: "VaultDown VaultNotInitialized",
        Kind.PERMISSION: "Forbidden Unauthorized",
        Kind.RATE_LIMIT: "RateLimitExceeded",
        Kind.EXTERNAL_API: "BadGateway InternalServerError",
        Kind.CONFLICT: "PreconditionFailed",
        Kind.VALIDATION: "InvalidRequest ParamValidationError UnsupportedOperation",
    },
    "itsdangerous": {
        Kind.PERMISSION: "BadData BadSignature SignatureExpired BadTimeSignature BadHeader BadPayload"
    },
    "jose": {Kind.PERMISSION: "JOSEError JWTError JWSError JWEError JWKError ExpiredSignatureError"},
    "jwcrypto": {Kind.PERMISSION: "JWException"},
    "jwt": {
        Kind.PERMISSION: "InvalidTokenError DecodeError InvalidSignatureError ExpiredSignatureError "
        "InvalidKeyError "
        "InvalidAudienceError InvalidIssuerError ImmatureSignatureError MissingRequiredClaimError PyJWTError "
        "InvalidAlgorithmError PyJWKSetError PyJWKError",
        Kind.CONNECTION: "PyJWKClientConnectionError",
    },
    "ldap3": {
        Kind.CONNECTION: "LDAPCommunicationError LDAPSocketOpenError LDAPSocketReceiveError "
        "LDAPSocketSendError "
        "LDAPSocketCloseError LDAPSessionTerminatedByServerError LDAPServerPoolExhaustedError "
        "LDAPStartTLSError",
        Kind.UNAVAILABLE: "LDAPUnavailableResult LDAPBusyResult LDAPUnwillingToPerformResult "
        "LDAPServerPoolExhaustedError",
        Kind.PERMISSION: "LDAPBindError LDAPInvalidCredentialsResult LDAPInsufficientAccessRightsResult "
        "LDAPStrongerAuthRequiredResult LDAPInappropriateAuthenticationResult "
        "LDAPAuthMethodNotSupportedResult "
        "LDAPConfidentialityRequiredResult LDAPPasswordIsMandatoryError LDAPUserNameIsMandatoryError "
        "LDAPUserNameNotAllowedError",
        Kind.NOT_FOUND: "LDAPNoSuchObjectResult LDAPNoSuchAttributeResult",
        Kind.CONFLICT: "LDAPEntryAlreadyExistsResult LDAPAttributeOrValueExistsResult "
        "LDAPObjectClassViolationResult "
        "LDAPNotAllowedOnNotLeafResult LDAPConstraintViolationResult",
        Kind.VALIDATION: "LDAPInvalidDnError LDAPInvalidFilterError LDAPInvalidDNSyntaxResult "
        "LDAPInvalidAttributeSyntaxResult "
        "LDAPUndefinedAttributeTypeResult LDAPSizeLimitExceededResult LDAPNamingViolationResult",
        Kind.TIMEOUT: "LDAPTimeLimitExceededResult LDAPResponseTimeoutError",
        Kind.QUOTA_EXCEEDED: "LDAPAdminLimitExceededResult",
        Kind.EXTERNAL_API: "LDAPOperationsErrorResult LDAPProtocolErrorResult LDAPOtherResult "
        "LDAPLoopDetectedResult",
        Kind.BUG: "LDAPConfigurationError LDAPDefinitionError LDAPAttributeError LDAPObjectClassError "
        "LDAPObjectError LDAPKeyError LDAPEntryError LDAPCursorError LDAPWriterError LDAPReaderError",
    },
    "nacl": {Kind.PERMISSION: "BadSignatureError CryptoError InvalidkeyError"},
    "oauthlib": {
        Kind.PERMISSION: "OAuth2Error OAuth1Error TokenExpiredError MissingTokenError MismatchingStateError "
        "InsecureTransportError",
    },
    "passlib": {
        Kind.BUG: "MissingBackendError UnknownHashError",
        Kind.VALIDATION: "PasswordSizeError PasswordTruncateError PasswordValueError",
    },
    "requests_oauthlib": {Kind.PERMISSION: "TokenUpdated TokenMissing TokenRequestDenied VerifierMissing"},
    "service_identity": {Kind.PERMISSION: "VerificationError CertificateError"},
}

LEANS: dict[str, dict[Kind, str]] = {
    "OpenSSL": {Kind.CONNECTION: "Error"},
    "hvac": {Kind.EXTERNAL_API: "VaultError UnexpectedError"},
    "keycloak": {Kind.EXTERNAL_API: "KeycloakError"},
    "ldap3": {Kind.EXTERNAL_API: "LDAPException LDAPOperationResult"},
}

SILENT: dict[str, str] = {}
