# One image for each process of Latchkey; a target each. docs/ops/containers.md tells how they are meant.
#
# The build: `docker compose build`, which takes LATCHKEY_IMAGE_PYTHON from .env. Every package comes from
# requirements.lock with its hash; an image has what its own service needs and nothing else.
ARG LATCHKEY_IMAGE_PYTHON

FROM ${LATCHKEY_IMAGE_PYTHON} AS build
WORKDIR /src
COPY bootstrap.lock ./
RUN python -m venv /uv && /uv/bin/pip install --quiet --no-cache-dir --require-hashes --no-deps -r bootstrap.lock
# What is installed is the same in every build of the same source, compiled files and times included.
ENV SOURCE_DATE_EPOCH=1735689600 PYC_INVALIDATION_MODE=UNCHECKED_HASH UV_CACHE_DIR=/cache UV_LINK_MODE=copy \
    UV_NO_PROGRESS=1 UV_PYTHON=/usr/local/bin/python PATH=/uv/bin:$PATH
COPY requirements.lock pyproject.toml ./
COPY libs/contracts/pyproject.toml libs/contracts/
COPY libs/servicekit/pyproject.toml libs/servicekit/
COPY services/access-gateway/pyproject.toml services/access-gateway/
COPY services/notifier/pyproject.toml services/notifier/
COPY services/permission-projector/pyproject.toml services/permission-projector/
COPY services/portal/pyproject.toml services/portal/
COPY services/share-command/pyproject.toml services/share-command/
COPY tools/devstack/pyproject.toml tools/devstack/
COPY tools/ops/pyproject.toml tools/ops/
COPY deploy/images deploy/images
RUN deploy/images/install packages
COPY libs libs
COPY services services
COPY tools tools
RUN deploy/images/install ours

FROM ${LATCHKEY_IMAGE_PYTHON} AS runtime
COPY deploy/images/healthy /usr/local/bin/healthy
# A user of no rights, whose home is the only place that its image has for state.
RUN groupadd --system --gid 10001 latchkey \
    && useradd --system --uid 10001 --gid 10001 --home-dir /var/lib/latchkey --shell /usr/sbin/nologin latchkey \
    && install --directory --owner latchkey --group latchkey --mode 0700 /var/lib/latchkey
ENV PYTHONPATH=/opt/latchkey PATH=/opt/latchkey/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    LATCHKEY_HTTP_HOST=0.0.0.0 LATCHKEY_HTTP_PORT=8000
LABEL org.opencontainers.image.vendor="Latchkey" org.opencontainers.image.version="0.1.0"
WORKDIR /var/lib/latchkey
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=6 CMD ["healthy"]

FROM runtime AS share-command
LABEL org.opencontainers.image.title="Latchkey share-command" \
      org.opencontainers.image.description="Decides about shares and publishes what was decided."
COPY --from=build /images/share-command/packages /opt/latchkey
COPY --from=build /images/share-command/ours /opt/latchkey
ENTRYPOINT ["share-command"]
CMD ["serve"]

FROM runtime AS permission-projector
LABEL org.opencontainers.image.title="Latchkey permission-projector" \
      org.opencontainers.image.description="Builds the permission read models and serves them."
COPY --from=build /images/permission-projector/packages /opt/latchkey
COPY --from=build /images/permission-projector/ours /opt/latchkey
ENTRYPOINT ["permission-projector"]
CMD ["serve"]

FROM runtime AS notifier
LABEL org.opencontainers.image.title="Latchkey notifier" \
      org.opencontainers.image.description="Tells people what happened to their shares."
COPY --from=build /images/notifier/packages /opt/latchkey
COPY --from=build /images/notifier/ours /opt/latchkey
ENTRYPOINT ["notifier"]
CMD ["serve"]

FROM runtime AS access-gateway
LABEL org.opencontainers.image.title="Latchkey access-gateway" \
      org.opencontainers.image.description="Relays connections that grants allow, and cuts them when they no longer do."
COPY --from=build /images/access-gateway/packages /opt/latchkey
COPY --from=build /images/access-gateway/ours /opt/latchkey
ENTRYPOINT ["access-gateway"]
CMD ["serve"]

FROM runtime AS portal
LABEL org.opencontainers.image.title="Latchkey portal" \
      org.opencontainers.image.description="The one address that frontends talk to: GraphQL, sign-in, pages."
COPY --from=build /images/portal/packages /opt/latchkey
COPY --from=build /images/portal/ours /opt/latchkey
ENTRYPOINT ["portal"]
CMD ["serve"]

# For who runs an installation: topics, lag, dead letters, replay. It runs a verb and ends.
FROM runtime AS ops
LABEL org.opencontainers.image.title="Latchkey ops" \
      org.opencontainers.image.description="Makes topics; asks and mends a running installation."
COPY --from=build /images/ops/packages /opt/latchkey
COPY --from=build /images/ops/ours /opt/latchkey
HEALTHCHECK NONE
ENTRYPOINT ["latchkey-ops"]
CMD ["--help"]

# What stands for the customer's world in a demo: sign-in, registry, devices. Not for an installation of yours.
FROM runtime AS demo
LABEL org.opencontainers.image.title="Latchkey demo" \
      org.opencontainers.image.description="Sign-in service, registry and devices of the demo; secrets for trying it out."
COPY --from=build /images/demo/packages /opt/latchkey
COPY --from=build /images/demo/ours /opt/latchkey
USER root
# A volume takes its first owner from the place it is first mounted at: these are the secrets job's.
RUN for name in authority edge postgres share-command share-command-relay permission-projector \
        permission-reader notifier access-gateway portal ops issuer registry mailpit mails; do \
        install --directory --owner latchkey --group latchkey --mode 0755 /secrets/$name; \
    done
USER 10001:10001
ENTRYPOINT ["devstack-demo"]
CMD ["--help"]
