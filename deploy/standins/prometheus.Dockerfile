FROM latchkey-standin/base
RUN ln -s /usr/bin/prometheus /bin/prometheus 2>/dev/null; mkdir -p /prometheus /etc/prometheus && chown 65534:65534 /prometheus
USER 65534
VOLUME /prometheus
WORKDIR /prometheus
ENTRYPOINT ["/usr/bin/prometheus"]
