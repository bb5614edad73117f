"""Dead letters in PostgreSQL, through asyncpg in an event loop of the store's own."""
