"""Wiring shared by all services: settings, logs, health, Postgres, Kafka, tokens. It knows no share."""
