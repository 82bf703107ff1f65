# Head and workers of a cluster in one image; `docker.image` of a cluster file names it, by version or digest.
#
#   docker build -t sweeper:0.1.0 .
#
# A tag may be moved to another image; a digest is one image for ever. This builds on the digest that the tag has today:
#
#   docker build -t sweeper:0.1.0 --build-arg BASE=python@$(docker buildx imagetools inspect \
#     python:3.11.14-slim-bookworm --format '{{.Manifest.Digest}}') .
#
# Every package comes from requirements.txt, by its hash. The driver of the GPU is the machine's, and so is the mount:
# mount in initialization_commands, give `-v /shared:/shared` in docker.run_options, and of setup_commands keep the token's.
ARG BASE=python:3.11.14-slim-bookworm
FROM ${BASE}

# What Ray's launcher needs in a container (ssh, rsync), what the head needs (PostgreSQL), and git for the code's commit.
RUN mkdir -p /etc/postgresql-common \
    && echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf \
    && apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends openssh-client rsync postgresql procps git \
    && rm -rf /var/lib/apt/lists/*

# PostgreSQL refuses root, and so do we. Ray's launcher types into a login shell, which sets its own PATH.
RUN echo 'export PATH=/home/ray/venv/bin:/home/ray/uv/bin:$PATH' > /etc/profile.d/sweeper.sh \
    && useradd --create-home --uid 1000 --shell /bin/bash ray
USER ray
WORKDIR /home/ray
ENV PATH=/home/ray/venv/bin:/home/ray/uv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    RAY_USAGE_STATS_ENABLED=0

# The packages change seldom and are large: a layer of their own, without a cache in it.
COPY --chown=ray requirements.txt sweeper/
RUN python -m venv uv \
    && sed -n '/^uv==/,/[^\\]$/p' sweeper/requirements.txt \
    | uv/bin/pip install -q --no-cache-dir --require-hashes --no-deps -r /dev/stdin \
    && uv venv -q --python 3.11.14 venv \
    && uv pip sync -q --no-cache --require-hashes --python venv/bin/python sweeper/requirements.txt

# The code changes often and is small.
COPY --chown=ray pyproject.toml README.md sweeper/
COPY --chown=ray sweeper sweeper/sweeper
COPY --chown=ray trainables sweeper/trainables
COPY --chown=ray dashboards sweeper/dashboards
RUN uv pip install -q --no-cache --no-deps --no-build-isolation --python venv/bin/python -e sweeper
