"""The embedded stack: broker, database, mailbox, issuer, registry, and all services."""
