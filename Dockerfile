# paynode without embedded servers: PostgreSQL and Redis are given by PAYNODE_DATABASE__URL and PAYNODE_REDIS__URL.
# docker run IMAGE migrate, then IMAGE serve, IMAGE worker, IMAGE scheduler.

FROM python:3.12-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
# The requirements first: they change seldom, and their layer is kept until they do.
COPY requirements/base.txt requirements/build.txt requirements/
RUN python -m venv /opt/paynode \
    && /opt/paynode/bin/pip install --require-hashes --only-binary :all: --requirement requirements/base.txt \
    && python -m venv /opt/build \
    && /opt/build/bin/pip install --require-hashes --only-binary :all: --requirement requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY config config
COPY paynode paynode
RUN /opt/build/bin/python -m hatchling build -t wheel -d /dist \
    && /opt/paynode/bin/pip install --no-deps --no-index /dist/*.whl

FROM python:3.12-slim-bookworm
# A number without a name is enough, and the one that orchestrators want to see (runAsNonRoot).
RUN install --directory --owner=10001 --group=10001 --mode=0700 /var/lib/paynode
COPY --from=build /opt/paynode /opt/paynode
ENV PATH=/opt/paynode/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PAYNODE_DATA_DIR=/var/lib/paynode \
    PAYNODE_HTTP__HOST=0.0.0.0 \
    PAYNODE_ADMIN__HOST=0.0.0.0
USER 10001:10001
WORKDIR /var/lib/paynode
VOLUME /var/lib/paynode
EXPOSE 8080 9464
# No HEALTHCHECK: the ingress answers /livez and /readyz on port 9464, a worker none unless it is given a port.
STOPSIGNAL SIGTERM
ENTRYPOINT ["paynode"]
CMD ["serve"]
