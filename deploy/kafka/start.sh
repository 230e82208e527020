#!/bin/sh
# Starts one broker of the official image on server.properties, formatting a new directory first. The image's
# own entry point writes into its file system, which is read-only here.
set -eu
id() { head -c 16 /dev/urandom | base64 | tr '+/' '-_' | cut -c 2-22; }
{
  cat /etc/latchkey/server.properties
  # The port inside is the port outside, so that the broker finds itself by its own address too.
  echo "listeners=PLAINTEXT://0.0.0.0:${LATCHKEY_ADVERTISED##*:},CONTROLLER://127.0.0.1:9093"
  echo "advertised.listeners=PLAINTEXT://${LATCHKEY_ADVERTISED}"
} >/tmp/server.properties
export LOG_DIR=/tmp EXTRA_ARGS=-Dlatchkey KAFKA_HEAP_OPTS="${KAFKA_HEAP_OPTS:--Xms64m -Xmx256m}"
export KAFKA_JVM_PERFORMANCE_OPTS="-XX:+UseSerialGC -XX:TieredStopAtLevel=1"
export KAFKA_LOG4J_OPTS="-Dlog4j2.configurationFile=/etc/latchkey/log4j2.properties"
if [ ! -f /var/lib/kafka/data/meta.properties ]; then
  /opt/kafka/bin/kafka-storage.sh format --cluster-id "L$(id)" --config /tmp/server.properties
fi
exec /opt/kafka/bin/kafka-server-start.sh /tmp/server.properties
