"""The rules of a registration: statuses, addresses, tokens, codes, validation. Imports no SQLAlchemy and no psycopg."""
