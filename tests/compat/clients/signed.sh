#!/usr/bin/env bash
# Sends the document on standard input as a shell user does it: credentials file, openssl, curl.
# usage: signed.sh <address of the service> <credentials file>, with the names that remote.it's users sign
set -u
address=$1
# The section's line is no command; whoever sources such a file sees a complaint about it and goes on.
source "$2" 2>/dev/null

body=$(mktemp)
trap 'rm -f "$body"' EXIT
cat >"$body"

secret=$(echo "$R3_SECRET_ACCESS_KEY" | base64 --decode)
date=$(LANG=C date -u '+%a, %d %b %Y %H:%M:%S %Z')
content_type=application/json
names='(request-target) host date content-type content-length'
text="(request-target): post /graphql/v1
host: api.remote.it
date: $date
content-type: $content_type
content-length: $(wc -c <"$body" | tr -d ' ')"
signature=$(printf '%s' "$text" | openssl dgst -binary -sha256 -hmac "$secret" | base64)

curl --silent --show-error --noproxy '*' --max-time 30 --write-out '\n%{http_code}' \
    -H "Authorization: Signature keyId=\"$R3_ACCESS_KEY_ID\",algorithm=\"hmac-sha256\",headers=\"$names\",signature=\"$signature\"" \
    -H "Date: $date" -H "Content-Type: $content_type" \
    --data-binary "@$body" "$address/graphql/v1"
