# The pipeline with everything that it needs, for GPUs and CPUs alike:
#
#   make image
#   docker run --rm domix make smoke     the whole pipeline, small; needs no network
#   docker run --rm --gpus all --user "$(id -u)" --env HOME=/tmp --volume "$PWD":/app domix    this folder's params.yaml
#
# The base is CUDA's smallest flavour: the locked packages bring CUDA's libraries themselves, so that versions match.
# Any Debian or Ubuntu with Python 3.11 or newer serves as well. `make image-digest` pins its contents behind the tag.
ARG BASE_IMAGE=nvidia/cuda:13.0.1-base-ubuntu24.04

FROM ${BASE_IMAGE} AS base
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# The distribution's fixes are wanted as they come; the base image pins the distribution.
# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        ca-certificates git make python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
ENV VENV=/opt/venv \
    LOCK=requirements/run.txt
ENV PATH=${VENV}/bin:${PATH}

# The packages change seldom and are large: a layer of their own, made from the lock alone.
FROM base AS packages
WORKDIR /build
COPY Makefile ./
COPY requirements/run.txt requirements/
RUN --mount=type=cache,target=/root/.cache UV_LINK_MODE=copy make packages

FROM packages
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Domix" \
      org.opencontainers.image.description="When and how does CLIP generalise to unseen visual domains?" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.revision="${REVISION}"
RUN useradd --create-home --uid 10001 domix && install --directory --owner=domix --group=domix /app
WORKDIR /app
COPY --chown=domix:domix . .
# Without Git's folder in the image, DVC is told not to look for one; a mounted repository brings its own settings.
RUN make env \
    && dvc config --local core.no_scm true \
    && chown --recursive domix:domix .dvc src
USER 10001
ENV DVC_NO_ANALYTICS=true \
    HF_HUB_OFFLINE=1 \
    MLFLOW_DISABLE_TELEMETRY=true \
    WDS_SECURE=1
CMD ["make", "repro"]
