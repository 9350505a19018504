# The control plane: api, worker, controller and migrate are commands of one image.
#   docker build -t botyard .

FROM node:20-bookworm-slim AS web
WORKDIR /app/web-admin
COPY web-admin/package.json web-admin/package-lock.json ./
RUN npm ci --no-audit --no-fund
COPY web-admin ./
RUN npm run build

FROM python:3.11-slim-bookworm AS packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
RUN python -m venv /opt/venv
COPY requirements.lock ./
RUN /opt/venv/bin/pip install --require-hashes -r requirements.lock
WORKDIR /app
COPY pyproject.toml README.md LICENSE alembic.ini ./
COPY alembic alembic
COPY adapters adapters
COPY instance_agent instance_agent
COPY control_plane control_plane
RUN /opt/venv/bin/pip install --no-deps --no-build-isolation -e .
# Nothing can be written there later.
RUN /opt/venv/bin/python -m compileall -q -j 0 /opt/venv/lib /app

FROM python:3.11-slim-bookworm
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin botyard
COPY --from=packages /opt/venv /opt/venv
COPY --from=packages /app /app
COPY --from=web /app/web-admin/dist /app/web-admin/dist
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
# Where it may write: /tmp and /data, which are to be mounted.
WORKDIR /tmp
EXPOSE 8080
ENTRYPOINT ["botyard"]
CMD ["--help"]
