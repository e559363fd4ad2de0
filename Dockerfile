# An image with all that NanoML needs, for jobs (batch.image) and workers: `make container` builds it.
# Any image with Python 3.10 or later and its module venv will do as BASE.
ARG BASE=docker.io/library/python:3.12-slim
FROM ${BASE}
ARG EXTRAS=all,xrootd,dask
COPY . /tmp/nanoml
RUN python3 -m venv /opt/nanoml \
    && /opt/nanoml/bin/pip install --no-cache-dir "/tmp/nanoml[${EXTRAS}]" \
    && rm -rf /tmp/nanoml
ENV PATH=/opt/nanoml/bin:$PATH
