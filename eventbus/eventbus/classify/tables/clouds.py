"""Clouds, payment, mail and message services, language models, and other APIs with clients of their own."""

from __future__ import annotations

from eventbus.classify.kinds import Kind

TELLS: dict[str, dict[Kind, str]] = {
    "anthropic": {Kind.EXTERNAL_API: "APIResponseValidationError"},
    "azure": {
        Kind.CONNECTION: "ServiceRequestError ServiceResponseError IncompleteReadError StreamClosedError",
        Kind.TIMEOUT: "ServiceRequestTimeoutError ServiceResponseTimeoutError OperationTimeoutError",
        Kind.PERMISSION: "CredentialUnavailableError ClientAuthenticationError",
        Kind.EXTERNAL_API: "DecodeError DeserializationError TooManyRedirectsError",
        Kind.CONTENTION: "AutoLockRenewFailed OwnershipLostError MessageLockLostError "
        "SessionLockLostError SessionCannotBeLockedError",
        Kind.VALIDATION: "MessageSizeExceededError MessageAlreadySettled",
        Kind.QUOTA_EXCEEDED: "MessagingEntityQuotaExceeded QuotaExceededError",
        Kind.UNAVAILABLE: "ServiceBusServerBusyError ServiceBusCommunicationError",
    },
    "botocore": {
        Kind.CONNECTION: (
            "EndpointConnectionError ConnectionClosedError ConnectionError HTTPClientError "
            "ProxyConnectionError "
            "ResponseStreamingError IncompleteReadError"
        ),
        Kind.TIMEOUT: "ReadTimeoutError ConnectTimeoutError",
        Kind.PERMISSION: (
            "NoCredentialsError PartialCredentialsError CredentialRetrievalError TokenRetrievalError "
            "SSOTokenLoadError "
            "UnauthorizedSSOTokenError NoAuthTokenError RefreshWithMFAUnsupportedError LoginError"
        ),
        Kind.VALIDATION: "ParamValidationError",
        Kind.BUG: (
            "NoRegionError UnknownServiceError ProfileNotFound DataNotFoundError ConfigNotFound "
            "ConfigParseError "
            "UnknownEndpointError InvalidRegionError MissingDependencyException OperationNotPageableError "
            "InvalidConfigError InvalidEndpointConfigurationError EndpointProviderError "
            "UnknownClientMethodError"
        ),
        Kind.EXTERNAL_API: "ResponseParserError ChecksumMismatchError FlexibleChecksumError EventStreamError",
        Kind.RATE_LIMIT: "CapacityNotAvailableError",
    },
    "s3transfer": {Kind.CONNECTION: "RetriesExceededError"},
    "boto3": {
        Kind.CONNECTION: "RetriesExceededError",
        Kind.BUG: "ResourceNotExistsError UnknownAPIVersionError NoVersionFound",
    },
    "braintree": {
        Kind.UNAVAILABLE: "DownForMaintenanceError ServiceUnavailableError",
        Kind.BUG: "UpgradeRequiredError",
    },
    "discord": {
        Kind.PERMISSION: "Forbidden LoginFailure PrivilegedIntentsRequired",
        Kind.CONNECTION: "GatewayNotFound ConnectionClosed",
        Kind.EXTERNAL_API: "DiscordServerError",
        Kind.RATE_LIMIT: "RateLimited CommandOnCooldown",
    },
    "gitlab": {
        Kind.PERMISSION: "GitlabAuthenticationError",
        Kind.EXTERNAL_API: "GitlabParsingError RedirectError",
    },
    "github": {
        Kind.PERMISSION: "BadCredentialsException TwoFactorException",
        Kind.RATE_LIMIT: "RateLimitExceededException",
        Kind.NOT_FOUND: "UnknownObjectException",
        Kind.EXTERNAL_API: "BadAttributeException",
    },
    "google.api_core": {Kind.TIMEOUT: "RetryError", Kind.BUG: "DuplicateCredentialArgs"},
    "google.auth": {
        Kind.PERMISSION: (
            "DefaultCredentialsError RefreshError OAuthError UserAccessTokenError MalformedError "
            "InvalidValue "
            "ReauthFailError ReauthSamlChallengeFailError MutualTLSChannelError"
        ),
        Kind.CONNECTION: "TransportError",
        Kind.BUG: "InvalidOperation",
    },
    "google.genai": {
        Kind.VALIDATION: "UnknownFunctionCallArgumentError UnsupportedFunctionError FunctionInvocationError"
    },
    "googleapiclient": {
        Kind.VALIDATION: "MediaUploadSizeError InvalidChunkSizeError UnacceptableMimeTypeError "
        "InvalidJsonError",
        Kind.BUG: "UnknownApiNameOrVersion UnknownLinkType UnknownFileType",
    },
    "huggingface_hub": {
        Kind.NOT_FOUND: "RepositoryNotFoundError RevisionNotFoundError EntryNotFoundError "
        "LocalEntryNotFoundError",
        Kind.PERMISSION: "GatedRepoError DisabledRepoError LocalTokenNotFoundError",
        Kind.TIMEOUT: "InferenceTimeoutError",
        Kind.VALIDATION: "HFValidationError",
    },
    "kubernetes": {
        Kind.VALIDATION: "ApiTypeError ApiValueError",
        Kind.BUG: "ApiAttributeError ApiKeyError ConfigException",
    },
    "litellm": {
        Kind.VALIDATION: "ContentPolicyViolationError ContextWindowExceededError UnsupportedParamsError "
        "JSONSchemaValidationError RejectedRequestError",
        Kind.QUOTA_EXCEEDED: "BudgetExceededError",
        Kind.CONNECTION: "APIConnectionError",
        Kind.EXTERNAL_API: "APIResponseValidationError",
    },
    "msal": {Kind.PERMISSION: "IdTokenError"},
    "ollama": {Kind.VALIDATION: "RequestError"},
    "openai": {
        Kind.EXTERNAL_API: "APIResponseValidationError",
        Kind.VALIDATION: "ContentFilterFinishReasonError LengthFinishReasonError",
        Kind.PERMISSION: "OAuthError InvalidWebhookSignatureError",
    },
    "plaid": {Kind.VALIDATION: "ApiTypeError ApiValueError"},
    "replicate": {Kind.EXTERNAL_API: "ModelError"},
    "simple_salesforce": {
        Kind.PERMISSION: "SalesforceAuthenticationFailed SalesforceExpiredSession SalesforceRefusedRequest",
        Kind.NOT_FOUND: "SalesforceResourceNotFound",
        Kind.VALIDATION: "SalesforceMalformedRequest",
        Kind.CONFLICT: "SalesforceMoreThanOneRecord",
    },
    "slack_sdk": {
        Kind.BUG: "SlackClientNotConnectedError",
        Kind.VALIDATION: "SlackObjectFormationError",
        Kind.PERMISSION: "BotUserAccessError SlackTokenRotationError",
    },
    "stripe": {
        Kind.VALIDATION: "CardError",
        Kind.PERMISSION: "SignatureVerificationError AuthenticationError PermissionError",
        Kind.CONFLICT: "IdempotencyError",
        Kind.CONNECTION: "APIConnectionError",
    },
    "telegram": {
        Kind.TIMEOUT: "TimedOut",
        Kind.RATE_LIMIT: "RetryAfter",
        Kind.PERMISSION: "Forbidden InvalidToken",
        Kind.VALIDATION: "BadRequest ChatMigrated EndPointNotFound",
        Kind.CONFLICT: "Conflict",
        Kind.BUG: "PassportDecryptionError",
    },
    "telethon": {Kind.RATE_LIMIT: "FloodWaitError"},
    "temporalio": {Kind.CONFLICT: "WorkflowAlreadyStartedError"},
    "tweepy": {Kind.PERMISSION: "Forbidden Unauthorized"},
}

LEANS: dict[str, dict[Kind, str]] = {
    "anthropic": {Kind.CONNECTION: "APIConnectionError", Kind.EXTERNAL_API: "APIError AnthropicError"},
    "azure": {Kind.EXTERNAL_API: "HttpResponseError AzureError ServiceBusError EventHubError"},
    "boto3": {Kind.EXTERNAL_API: "Boto3Error S3UploadFailedError S3TransferFailedError"},
    "botocore": {Kind.EXTERNAL_API: "ClientError BotoCoreError", Kind.TIMEOUT: "WaiterError"},
    "braintree": {Kind.EXTERNAL_API: "BraintreeError UnexpectedError"},
    "cohere": {Kind.EXTERNAL_API: "ApiError"},
    "discord": {Kind.EXTERNAL_API: "HTTPException DiscordException"},
    "github": {Kind.EXTERNAL_API: "GithubException"},
    "gitlab": {Kind.EXTERNAL_API: "GitlabError GitlabHttpError GitlabOperationError"},
    "google.api_core": {Kind.EXTERNAL_API: "GoogleAPICallError GoogleAPIError"},
    "google.auth": {Kind.PERMISSION: "GoogleAuthError"},
    "google.genai": {Kind.EXTERNAL_API: "APIError ServerError", Kind.VALIDATION: "ClientError"},
    "googleapiclient": {Kind.EXTERNAL_API: "HttpError Error"},
    "groq": {Kind.CONNECTION: "APIConnectionError", Kind.EXTERNAL_API: "APIError GroqError"},
    "huggingface_hub": {Kind.EXTERNAL_API: "HfHubHTTPError"},
    "jira": {Kind.EXTERNAL_API: "JIRAError"},
    "kubernetes": {Kind.EXTERNAL_API: "ApiException"},
    "minio": {Kind.EXTERNAL_API: "S3Error MinioException InvalidResponseError ServerError"},
    "mistralai": {Kind.EXTERNAL_API: "SDKError MistralError"},
    "openai": {Kind.CONNECTION: "APIConnectionError", Kind.EXTERNAL_API: "APIError OpenAIError"},
    "slack_sdk": {Kind.EXTERNAL_API: "SlackApiError SlackRequestError SlackClientError"},
    "stripe": {Kind.EXTERNAL_API: "StripeError APIError", Kind.VALIDATION: "InvalidRequestError"},
    "telegram": {Kind.CONNECTION: "NetworkError", Kind.EXTERNAL_API: "TelegramError"},
    "temporalio": {Kind.EXTERNAL_API: "RPCError ServiceError"},
    "twilio": {Kind.EXTERNAL_API: "TwilioRestException TwilioException"},
}

SILENT: dict[str, str] = {
    "temporalio": "ActivityError ChildWorkflowError ApplicationError FailureError WorkflowFailureError",
}
