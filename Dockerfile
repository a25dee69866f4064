# foldblend with Ray, for `docker compose up`, Kubernetes, or a single machine.
#
#   docker build -t foldblend:0.1.0 .                                    CUDA
#   docker build -t foldblend:0.1.0-cpu --build-arg DEVICE=cpu \
#     --build-arg TORCH_INDEX=<PyTorch's index of CPU wheels> .           CPU only, 4 GB smaller
#
# PyTorch's wheels bring CUDA with them: the host needs only NVIDIA's driver and container toolkit.
ARG BASE=python:3.12-slim-bookworm

# --- everything is installed here, so that the image carries no compiler and no pip cache ---------
FROM ${BASE} AS install
ARG DEVICE=cuda
# Empty: PyPI, which has the CUDA build for x86. PyTorch's own index has a smaller CPU build.
ARG TORCH_INDEX=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
RUN python -m venv /opt/foldblend
ENV PATH=/opt/foldblend/bin:$PATH
WORKDIR /src

# What changes rarely first: PyTorch, then the other dependencies, then the code. Which versions is
# said in pyproject.toml alone; Ray is the one of cluster.yaml.
COPY pyproject.toml README.md ./
RUN python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
      print('\n'.join(project['dependencies']))" > dependencies.txt \
 && grep -E '^torch' dependencies.txt > torch.txt
RUN pip install -q ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} -r torch.txt \
 && python -c "import torch, sys; device = 'cpu' if torch.version.cuda is None else 'cuda'; \
      sys.exit(None if device == '$DEVICE' else \
      f'DEVICE=$DEVICE was asked for, {torch.__version__} is built for {device}: see TORCH_INDEX')"
RUN pip install -q -r dependencies.txt "ray[default,tune]==2.60.0"
COPY ensemble ensemble
COPY search_spaces search_spaces
COPY trainables trainables
COPY tuner tuner
RUN pip install -q --no-deps . && foldblend --help > /dev/null

# --- what runs ----------------------------------------------------------------------------------
FROM ${BASE}
# Kubernetes' probes ask with wget; without procps `ray stop` finds nothing to stop.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends procps wget \
 && rm -rf /var/lib/apt/lists/*
ARG UID=1000
RUN useradd --uid "$UID" --create-home --shell /bin/bash foldblend \
 && install -d -o foldblend -g foldblend /runs /home/foldblend/.cache
COPY --from=install /opt/foldblend /opt/foldblend
ENV PATH=/opt/foldblend/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    RAY_AUTH_MODE=token \
    RAY_USAGE_STATS_ENABLED=0 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
# By number, so that Kubernetes can see that it is not root.
USER ${UID}
WORKDIR /home/foldblend
# A container in which no Ray was started, such as one `foldblend predict`, has nothing to be asked.
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s --retries=4 \
  CMD ["bash", "-c", "test ! -e /tmp/ray/session_latest || wget -q -T 8 -O- http://127.0.0.1:52365/api/local_raylet_healthz | grep -q success"]
CMD ["foldblend", "--help"]
