# docker build --target cpu -t pipeserve .          for machines without a GPU
# docker build --target cuda -t pipeserve:cuda .    for NVIDIA GPUs (docker run --gpus all)
# docker build --target cpu --build-arg BAKE="acme/reviews@<commit> acme/chat" -t reviews .    with models of the Hub in it
ARG PYTHON=3.12

FROM python:${PYTHON}-slim-bookworm AS build
# The same packages in every build, whatever PyPI has by then.
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CONSTRAINT=/src/locked.txt
RUN python -m venv /opt/pipeserve && python -m venv /opt/cyclonedx
ENV PATH=/opt/pipeserve/bin:$PATH
WORKDIR /src
COPY constraints.txt deploy/image/locked.txt ./
RUN /opt/cyclonedx/bin/pip install -c constraints.txt cyclonedx-bom
# What an image holds: docker run --rm --entrypoint cat pipeserve /opt/pipeserve/sbom.cdx.json
ENV SBOM="/opt/cyclonedx/bin/cyclonedx-py environment /opt/pipeserve --pyproject pyproject.toml --output-reproducible \
    --output-format JSON --output-file /sbom.cdx.json"

# The server itself, apart from what it needs: a change of it is a layer of a few megabytes.
FROM build AS server
COPY pyproject.toml README.md LICENSE ./
COPY app app
RUN pip install --no-deps --root /server .

# torch on a layer of its own: it is most of the packages and changes least.
FROM build AS packages-cpu
# Where wheels of torch without CUDA are; empty: the usual index, whose Linux wheels bring CUDA along.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# Alone: what it needs may be of other versions there.
RUN pip install --no-deps -c constraints.txt ${TORCH_INDEX:+--index-url $TORCH_INDEX} torch
# hadolint ignore=DL3059
RUN pip install -r locked.txt

FROM packages-cpu AS described-cpu
COPY pyproject.toml ./
RUN $SBOM

# Models that BAKE names.
FROM build AS baked
ARG BAKE
ARG HF_ENDPOINT
COPY deploy/image/bake.py ./
# hadolint ignore=DL3013
RUN mkdir /hub && if [ -n "$BAKE" ]; then pip install huggingface_hub && HF_HOME=/hub python bake.py $BAKE; fi

FROM python:${PYTHON}-slim-bookworm AS base
RUN groupadd --gid 10001 pipeserve && useradd --create-home --uid 10001 --gid 10001 pipeserve \
    && mkdir -p /models /cache/huggingface /cache/pipeserve \
    && chown -R 10001:10001 /models /cache
COPY --from=baked --chown=10001:10001 /hub /cache/huggingface
ENV PATH=/opt/pipeserve/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HF_HOME=/cache/huggingface \
    PIPESERVE_CACHE_DIR=/cache/pipeserve \
    PIPESERVE_MODELS=/models/models.yaml \
    PIPESERVE_HOST=0.0.0.0 \
    PIPESERVE_PORT=8000
WORKDIR /models
COPY models.yaml /models/models.yaml
# By number: Kubernetes takes no name's word for not being root.
USER 10001:10001
VOLUME ["/cache/huggingface", "/cache/pipeserve"]
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["python", "-c", \
    "import os, ssl, urllib.request; tls = 'PIPESERVE_SSL_CERTFILE' in os.environ; urllib.request.urlopen('http%s://127.0.0.1:%s/livez' % ('s' * tls, os.environ['PIPESERVE_PORT']), timeout=4, context=ssl._create_unverified_context() if tls else None)"]
ENTRYPOINT ["pipeserve"]
CMD ["serve"]

FROM base AS cpu
COPY --from=packages-cpu /opt/pipeserve /opt/pipeserve
COPY --from=server /server/opt/pipeserve /opt/pipeserve
COPY --from=described-cpu /sbom.cdx.json /opt/pipeserve/

# Below what the cpu target needs: builders before BuildKit build all that stands above their target.
FROM build AS packages-cuda
RUN pip install -c constraints.txt torch
# hadolint ignore=DL3059
RUN pip install -r locked.txt

FROM packages-cuda AS described-cuda
COPY pyproject.toml ./
RUN $SBOM

FROM base AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=packages-cuda /opt/pipeserve /opt/pipeserve
COPY --from=server /server/opt/pipeserve /opt/pipeserve
COPY --from=described-cuda /sbom.cdx.json /opt/pipeserve/

FROM cpu
