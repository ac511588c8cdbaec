# binseg on a CPU: packed networks, in an image without torch.
#
#   docker build -t binseg .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/work" binseg predict street-base street.jpg --out segmented
#
# With extras, for example the page and the REST call (torch comes along; give the index with its
# builds for the CPU, or several gigabytes of CUDA come, too):
#
#   docker build -t binseg-demo --build-arg EXTRAS=demo --build-arg PIP_EXTRA_INDEX_URL=INDEX .
#   docker run --rm -p 127.0.0.1:7860:7860 binseg-demo demo --host 0.0.0.0 --port 7860
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
# what compiles libbinseg; CMake and ninja come with pip
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE ./
COPY configs configs
COPY binseg binseg
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON}-slim
ARG EXTRAS=""
ARG PIP_EXTRA_INDEX_URL=""
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir "$(echo /wheels/binseg-*.whl)${EXTRAS:+[$EXTRAS]}" && rm -r /wheels
# any user may run it: what is kept goes where all may write
ENV HOME=/tmp
USER 1000:1000
WORKDIR /work
EXPOSE 7860
ENTRYPOINT ["binseg"]
CMD ["--help"]
