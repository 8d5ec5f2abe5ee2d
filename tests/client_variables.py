"""The variables of libpq, of OpenSSL and of the AWS SDK, with values that would change a connection."""

from collections.abc import Mapping

# For each variable that libpq reads in place of a parameter: values with which a connection would fail or change.
LIBPQ_VARIABLES: Mapping[str, tuple[str, ...]] = {
    "PGAPPNAME": ("another",),
    "PGCHANNELBINDING": ("require", "nonsense"),
    "PGCLIENTENCODING": ("SQL_ASCII", "nonsense"),
    "PGCONNECT_TIMEOUT": ("nonsense",),
    "PGDATABASE": ("template1", "nowhere"),
    "PGGSSDELEGATION": ("1", "nonsense"),
    "PGGSSENCMODE": ("require", "nonsense"),
    "PGGSSLIB": ("sspi", "nonsense"),
    "PGHOST": ("nowhere.invalid", "/nowhere"),
    "PGHOSTADDR": ("127.0.0.2", "nonsense"),
    "PGKRBSRVNAME": ("nonsense",),
    "PGLOADBALANCEHOSTS": ("random", "nonsense"),
    "PGMAXPROTOCOLVERSION": ("3.2", "nonsense"),
    "PGMINPROTOCOLVERSION": ("3.2", "nonsense"),
    "PGOPTIONS": ("-c work_mem=1MB", "-c nonsense=1"),
    "PGPASSFILE": ("/nowhere",),
    "PGPASSWORD": ("wrong",),
    "PGPORT": ("1", "nonsense"),
    "PGREQUIREAUTH": ("none", "nonsense"),
    "PGREQUIREPEER": ("nobody",),
    "PGSSLCERT": ("/nowhere",),
    "PGSSLCERTMODE": ("require", "nonsense"),
    "PGSSLCOMPRESSION": ("1", "nonsense"),
    "PGSSLCRL": ("/nowhere",),
    "PGSSLCRLDIR": ("/",),
    "PGSSLKEY": ("/nowhere",),
    "PGSSLMAXPROTOCOLVERSION": ("TLSv1.2", "nonsense"),
    "PGSSLMINPROTOCOLVERSION": ("TLSv1", "nonsense"),
    "PGSSLMODE": ("disable", "nonsense"),
    "PGSSLNEGOTIATION": ("direct", "nonsense"),
    "PGSSLROOTCERT": ("system", "/nowhere"),
    "PGSSLSNI": ("0", "nonsense"),
    "PGTARGETSESSIONATTRS": ("standby", "nonsense"),
    "PGUSER": ("nobody",),
}

# Further variables that libpq or OpenSSL read.
OTHER_VARIABLES: Mapping[str, tuple[str, ...]] = {
    "PGLOCALEDIR": ("/nowhere",),
    "PGREQUIRESSL": ("1",),
    "PGSERVICEFILE": ("/nowhere",),
    "PGSYSCONFDIR": ("/nowhere",),
    "KRB5CCNAME": ("/nowhere",),
    "KRB5_CONFIG": ("/nowhere",),
    "KRB5_KTNAME": ("/nowhere",),
    "OPENSSL_CONF": ("/nowhere",),
    "SSL_CERT_DIR": ("/nowhere",),
    "SSL_CERT_FILE": ("/nowhere",),
    "SSLKEYLOGFILE": ("/nowhere/keys",),
    "XDG_CONFIG_HOME": ("/nowhere",),
}

# For each variable that leads the AWS SDK to another server: values with which a request would leave AWS.
AWS_ENDPOINTS: Mapping[str, tuple[str, ...]] = {
    "AWS_ENDPOINT_URL": ("http://127.0.0.1:{port}", "https://secretsmanager.example"),
    "AWS_ENDPOINT_URL_SECRETS_MANAGER": (
        "http://127.0.0.1:{port}",
        "http://secretsmanager.eu-west-1.amazonaws.com",
        "https://secretsmanager.us-east-1.amazonaws.com",
    ),
    "AWS_CONFIG_FILE": ("{config}",),
}

# Variables of the AWS SDK with which it still asks Secrets Manager in the region of the secret.
AWS_HARMLESS: Mapping[str, str] = {
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_USE_FIPS_ENDPOINT": "true",
    "AWS_USE_DUALSTACK_ENDPOINT": "true",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
    "AWS_DEFAULTS_MODE": "standard",
    "AWS_RETRY_MODE": "adaptive",
    "AWS_MAX_ATTEMPTS": "9",
    "AWS_SDK_UA_APP_ID": "another",
    "AWS_STS_REGIONAL_ENDPOINTS": "legacy",
    "AWS_ACCOUNT_ID_ENDPOINT_MODE": "required",
    "AWS_METADATA_SERVICE_TIMEOUT": "1",
    "AWS_METADATA_SERVICE_NUM_ATTEMPTS": "1",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1",
    "AWS_DATA_PATH": "/nowhere",
}

# Variables of the AWS SDK that concern neither the region nor the endpoint.
AWS_UNRELATED: Mapping[str, str] = {
    "AWS_ACCOUNT_ID": "999999999999",
    "AWS_AUTH_SCHEME_PREFERENCE": "sigv4",
    "AWS_CSM_CLIENT_ID": "another",
    "AWS_CSM_ENABLED": "false",
    "AWS_CSM_HOST": "127.0.0.1",
    "AWS_CSM_PORT": "1",
    "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
    "AWS_DISABLE_REQUEST_COMPRESSION": "true",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "IPv6",
    "AWS_EC2_METADATA_V1_DISABLED": "true",
    "AWS_ENDPOINT_DISCOVERY_ENABLED": "true",
    "AWS_ENDPOINT_URL_STS": "http://127.0.0.1:1",
    "AWS_EXECUTION_ENV": "another",
    "AWS_IMDS_USE_IPV6": "true",
    "AWS_LAMBDA_FUNCTION_NAME": "another",
    "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
    "AWS_REQUEST_MIN_COMPRESSION_SIZE_BYTES": "1",
    "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
    "AWS_S3_DISABLE_EXPRESS_SESSION_AUTH": "true",
    "AWS_S3_DISABLE_MULTIREGION_ACCESS_POINTS": "true",
    "AWS_S3_USE_ARN_REGION": "true",
    "AWS_S3_US_EAST_1_REGIONAL_ENDPOINT": "legacy",
    "AWS_SIGV4A_SIGNING_REGION_SET": "*",
    "BOTOCORE_TCP_KEEPALIVE": "1",
    "BOTO_DISABLE_CRT": "true",
    "BOTO_EXPERIMENTAL__ADD_PROXY_HOST_HEADER": "1",
    "BOTO_EXPERIMENTAL__NO_EMPTY_CONTINUE": "1",
}

# Variables of the network and of code that docs/configuration.md documents as obeyed.
AWS_OBEYED: Mapping[str, str] = {
    "AWS_CA_BUNDLE": "/nowhere",
    "REQUESTS_CA_BUNDLE": "/nowhere",
    "HTTPS_PROXY": "http://127.0.0.1:1",
    "HTTP_PROXY": "http://127.0.0.1:1",
    "ALL_PROXY": "http://127.0.0.1:1",
    "NO_PROXY": "*",
    "BOTOCORE_EXPERIMENTAL__PLUGINS": "another=nowhere",
    "SSLKEYLOGFILE": "/dev/null",
}

# Variables that give a process its identity in AWS. Beside a key in the environment, these have no effect.
AWS_IDENTITY: Mapping[str, str] = {
    "AWS_CONTAINER_AUTHORIZATION_TOKEN": "another",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/nowhere",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/nowhere",
    "AWS_CREDENTIAL_FILE": "/nowhere",
    "AWS_EC2_METADATA_DISABLED": "false",
    "AWS_LOGIN_CACHE_DIRECTORY": "/nowhere",
    "AWS_ROLE_ARN": "arn:aws:iam::999999999999:role/another",
    "AWS_ROLE_SESSION_NAME": "another",
    "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere",
    "BOTO_CONFIG": "/nowhere",
}

# Variables that decide which key that is.
AWS_KEYS: frozenset[str] = frozenset(
    {
        "AWS_ACCESS_KEY_ID",
        "AWS_CREDENTIAL_EXPIRATION",
        "AWS_DEFAULT_PROFILE",
        "AWS_PROFILE",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SECURITY_TOKEN",
        "AWS_SESSION_TOKEN",
    }
)
