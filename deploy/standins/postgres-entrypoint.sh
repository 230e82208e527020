#!/bin/bash
# What the project uses of the official entry point: POSTGRES_PASSWORD(_FILE), POSTGRES_DB, POSTGRES_INITDB_ARGS, PGDATA.
# Like that one it may be started as another user than root, and lets passwords be asked from everywhere.
set -euo pipefail
if [ "${1:-}" != postgres ]; then exec "$@"; fi
if [ "$(id -u)" = 0 ]; then exec setpriv --reuid=999 --regid=999 --clear-groups "$0" "$@"; fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  password=${POSTGRES_PASSWORD:-$(cat "${POSTGRES_PASSWORD_FILE:?a password is needed}")}
  mkdir -p "$PGDATA"; chmod 700 "$PGDATA"
  # shellcheck disable=SC2086 # arguments, on purpose
  initdb --username=postgres --pwfile=<(printf '%s' "$password") ${POSTGRES_INITDB_ARGS:-}
  echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
  if [ "${POSTGRES_DB:-postgres}" != postgres ]; then
    echo "create database ${POSTGRES_DB}" | postgres --single -D "$PGDATA" postgres >/dev/null
  fi
fi
exec "$@" -c listen_addresses='*'
