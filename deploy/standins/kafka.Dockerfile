FROM latchkey-standin/base
RUN useradd --uid 1000 --create-home appuser && mkdir -p /var/lib/kafka/data /opt/kafka/bin \
    && chown -R appuser:root /var/lib/kafka && chmod -R ug+w /var/lib/kafka
COPY java /opt/java
COPY libs /opt/kafka/libs
COPY bin-and-config/bin /opt/kafka/bin
USER appuser
VOLUME ["/var/lib/kafka/data"]
EXPOSE 9092
CMD ["false"]
