# eomt-batch in a container. Build:  docker build -t eomt-batch .
# Run, on files of the current folder, as their owner:
#   docker run --rm --gpus all --user "$(id -u):$(id -g)" -v "$PWD:/data" eomt-batch run input.tif --out masks.zarr
#
# BASE is any Debian with Python 3.11 or newer and its venv module. For builds that can be repeated, give it by digest:
#   docker buildx imagetools inspect python:3.12-slim
#   docker build --build-arg BASE=python:3.12-slim@sha256:<the digest printed> -t eomt-batch .
# torch's wheels bring the CUDA libraries, so the base needs none; the host needs its driver and the container toolkit.
ARG BASE=python:3.12-slim

# The dependencies and those of the extra s3, alone, so that a change of our code does not fetch gigabytes again.
FROM ${BASE} AS dependencies
ENV PATH=/opt/eomt-batch/bin:$PATH
WORKDIR /src
RUN python3 -m venv /opt/eomt-batch
COPY pyproject.toml ./
RUN python3 -c 'import tomllib; of = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
        print(*of["dependencies"], *of["optional-dependencies"]["s3"], sep="\n")' > requirements.txt \
    && pip install --no-cache-dir -r requirements.txt

# Not from the dependencies: a builder without overlays would copy them once more.
FROM ${BASE} AS wheel
WORKDIR /src
RUN python3 -m venv /opt/build
COPY pyproject.toml LICENSE README.md ./
COPY eomt_core eomt_core
COPY pipeline pipeline
COPY workflows workflows
RUN /opt/build/bin/pip wheel --no-cache-dir --no-deps --wheel-dir /dist .

FROM ${BASE}
# tini passes SIGTERM on and reaps worker processes. GDAL in rasterio's wheels takes libexpat from the system.
# The versions are those of the base's Debian release, which gets only fixes.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libexpat1 tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home eomt \
    && install -d -o eomt -g eomt /data
ENV PATH=/opt/eomt-batch/bin:$PATH
COPY --from=dependencies /opt/eomt-batch /opt/eomt-batch
COPY --from=wheel /dist /dist
RUN pip install --no-cache-dir --no-index --no-deps /dist/*.whl && rm -r /dist
# No downloaded weights are inside: mount a model's folder, or the hub's cache with HF_HOME.
USER 10001
WORKDIR /data
ENTRYPOINT ["tini", "--", "eomt-batch"]
CMD ["--help"]
