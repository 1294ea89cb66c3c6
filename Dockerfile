# docker build --target cpu -t pipeserve .          for machines without a GPU
# docker build --target cuda -t pipeserve:cuda .    for NVIDIA GPUs (docker run --gpus all)
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/pipeserve && python -m venv /opt/cyclonedx
ENV PATH=/opt/pipeserve/bin:$PATH
WORKDIR /src
COPY constraints.txt ./
RUN /opt/cyclonedx/bin/pip install -c constraints.txt cyclonedx-bom
# What an image holds: docker run --rm --entrypoint cat pipeserve /opt/pipeserve/sbom.cdx.json
ENV SBOM="/opt/cyclonedx/bin/cyclonedx-py environment /opt/pipeserve --pyproject pyproject.toml --output-reproducible \
    --output-format JSON --output-file /opt/pipeserve/sbom.cdx.json"

# torch on its own layers: it is most of the image and changes least.
FROM build AS build-cpu
# Where wheels of torch without CUDA are; empty: the usual index, whose Linux wheels bring CUDA along.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install -c constraints.txt ${TORCH_INDEX:+--index-url $TORCH_INDEX} torch
COPY pyproject.toml README.md LICENSE ./
COPY app app
RUN pip install -c constraints.txt ".[segmentation,sentencepiece,tables,video]" && $SBOM

FROM build AS build-cuda
RUN pip install -c constraints.txt torch
COPY pyproject.toml README.md LICENSE ./
COPY app app
RUN pip install -c constraints.txt ".[segmentation,sentencepiece,tables,video]" && $SBOM

FROM python:${PYTHON}-slim AS base
RUN useradd --create-home --uid 10001 pipeserve \
    && mkdir -p /models /cache/huggingface /cache/pipeserve \
    && chown -R pipeserve:pipeserve /models /cache
ENV PATH=/opt/pipeserve/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HF_HOME=/cache/huggingface \
    PIPESERVE_CACHE_DIR=/cache/pipeserve \
    PIPESERVE_MODELS=/models/models.yaml \
    PIPESERVE_HOST=0.0.0.0 \
    PIPESERVE_PORT=8000
WORKDIR /models
COPY --chown=pipeserve:pipeserve models.yaml /models/models.yaml
USER pipeserve
VOLUME ["/cache/huggingface", "/cache/pipeserve"]
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["python", "-c", \
    "import os, ssl, urllib.request; tls = 'PIPESERVE_SSL_CERTFILE' in os.environ; urllib.request.urlopen('http%s://127.0.0.1:%s/livez' % ('s' * tls, os.environ['PIPESERVE_PORT']), timeout=4, context=ssl._create_unverified_context() if tls else None)"]
ENTRYPOINT ["pipeserve"]
CMD ["serve"]

FROM base AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=build-cuda /opt/pipeserve /opt/pipeserve

FROM base AS cpu
COPY --from=build-cpu /opt/pipeserve /opt/pipeserve
