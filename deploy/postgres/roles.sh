#!/bin/bash
# Runs roles.sql on the database `latchkey` of the server `postgres`; passwords are files in /run/secrets.
set -euo pipefail
for role in share_command permission_projector notifier access_gateway portal; do
  declare -x "LATCHKEY_PASSWORD_${role^^}=$(cat "/run/secrets/$role")"
done
PGPASSWORD=$(cat /run/secrets/postgres); export PGPASSWORD
exec psql -X -q -v ON_ERROR_STOP=1 -h postgres -U postgres -d latchkey -f "$(dirname "$0")/roles.sql"
