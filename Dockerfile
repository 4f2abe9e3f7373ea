# rosetta on CPU torch:  docker build -t rosetta .
#   docker run --rm -v "$PWD:/models" rosetta model.apr model.gguf
# The CPU build of torch is a fifth of the size of the default one; give its index where you know one:
#   docker build --build-arg TORCH_INDEX=… -t rosetta .
FROM python:3.12-slim
ARG TORCH_INDEX=
RUN useradd --create-home rosetta
WORKDIR /src
COPY constraints.txt ./
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} -c constraints.txt torch
COPY pyproject.toml README.md LICENSE ./
COPY rosetta rosetta
RUN pip install --no-cache-dir -c constraints.txt . && rm -rf /src
USER rosetta
WORKDIR /models
ENTRYPOINT ["rosetta"]
CMD ["--help"]
