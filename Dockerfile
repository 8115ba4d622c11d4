# Four images of one project: `operator` watches the cluster, `serve` runs Triton behind a model, `gateway` stands before one, `worker`
# builds one.
#   docker build --target operator -t stillhouse/operator .
# BASE is any Debian 12 with Python 3.11, or one that apt-get can make so. Nothing is fetched when a container runs.
ARG BASE=debian:bookworm-slim
# What a worker has installed; where its packages come by a mount, those for serving do.
ARG WORKER_PACKAGES=requirements/worker.txt

FROM ${BASE} AS python
ENV PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PATH=/opt/stillhouse/bin:$PATH
# libpython: Triton's Python backend is linked against it.
RUN for package in python3 python3-venv libpython3.11 ca-certificates; do dpkg -s $package >/dev/null 2>&1 || missing="$missing $package"; done; \
    if [ -n "$missing" ]; then apt-get update && apt-get install -y --no-install-recommends $missing && rm -rf /var/lib/apt/lists/*; fi
RUN python3 -m venv /opt/stillhouse

FROM python AS operator-packages
COPY requirements/operator.txt /tmp/requirements.txt
RUN /opt/stillhouse/bin/pip install --require-hashes --requirement /tmp/requirements.txt

FROM python AS serve-packages
COPY requirements/serve.txt /tmp/requirements.txt
RUN /opt/stillhouse/bin/pip install --require-hashes --requirement /tmp/requirements.txt

FROM python AS gateway-packages
COPY requirements/gateway.txt /tmp/requirements.txt
RUN /opt/stillhouse/bin/pip install --require-hashes --requirement /tmp/requirements.txt

FROM python AS worker-packages
ARG WORKER_PACKAGES
COPY ${WORKER_PACKAGES} /tmp/requirements.txt
RUN /opt/stillhouse/bin/pip install --require-hashes --requirement /tmp/requirements.txt

# One source for all of them, so that what the operator writes is what the others read.
FROM operator-packages AS operator
COPY operator/stillhouse /opt/stillhouse/lib/python3.11/site-packages/stillhouse
USER 65532:65532
ENTRYPOINT ["/opt/stillhouse/bin/python", "-m", "stillhouse.entrypoints.operator"]

FROM serve-packages AS serve
COPY operator/stillhouse /opt/stillhouse/lib/python3.11/site-packages/stillhouse
USER 65532:65532
ENTRYPOINT ["/opt/stillhouse/bin/python", "-m", "stillhouse.entrypoints.serving"]

FROM gateway-packages AS gateway
COPY operator/stillhouse /opt/stillhouse/lib/python3.11/site-packages/stillhouse
USER 65532:65532
ENTRYPOINT ["/opt/stillhouse/bin/python", "-m", "stillhouse.entrypoints.gateway"]

FROM worker-packages AS worker
COPY operator/stillhouse /opt/stillhouse/lib/python3.11/site-packages/stillhouse
USER 65532:65532
ENTRYPOINT ["/opt/stillhouse/bin/python", "-m", "stillhouse.entrypoints.worker"]
