#!/bin/sh
# The part of Kafka's own script of this name that the project uses.
exec /opt/java/bin/java ${KAFKA_HEAP_OPTS:--Xmx256m} ${KAFKA_JVM_PERFORMANCE_OPTS:-} ${KAFKA_LOG4J_OPTS:-} \
  -cp "/opt/kafka/libs/*" "$@"
