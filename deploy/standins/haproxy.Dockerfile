FROM latchkey-standin/base
RUN groupadd --gid 99 haproxy2 && useradd --system --gid 99 --uid 99 haproxy2 && mkdir -p /usr/local/etc/haproxy \
    && ln -s /usr/sbin/haproxy /usr/local/sbin/haproxy
STOPSIGNAL SIGUSR1
USER 99
ENTRYPOINT ["haproxy"]
CMD ["-W", "-db", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]
