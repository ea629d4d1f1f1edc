# The web demo and the command line:
#   docker build -t glus-mm .                                   # for a CPU
#   docker build -t glus-mm:cuda --build-arg DEVICE=cuda .      # for NVIDIA's
#   docker run --rm -p 7860:7860 [--gpus all] glus-mm
#   docker run --rm -v "$PWD:/work" glus-mm glus-mm segment video.mp4 --text "..." --out-dir out
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE model-index.yml ./
COPY checkpoints checkpoints
COPY configs configs
COPY glus_mm glus_mm
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /dist .

FROM python:3.11-slim-bookworm
ARG DEVICE=cpu
# torch first: the wheels of PyPI bring CUDA, 5 GB of it; those for a CPU have an index of their own.
RUN case "$DEVICE" in \
        cpu) index=https://download.pytorch.org/whl/cpu ;; \
        cuda) index=https://pypi.org/simple ;; \
        *) echo "DEVICE: expected cpu or cuda, got $DEVICE" >&2; exit 1 ;; \
    esac \
    && pip install --no-cache-dir --index-url "$index" 'torch>=2.6' 'torchvision>=0.21'
COPY --from=build /dist /dist
# This image has no library of a desktop, which opencv-python links to.
RUN pip install --no-cache-dir "$(echo /dist/*.whl)[lite,demo]" \
    && pip install --no-cache-dir --no-deps --force-reinstall opencv-python-headless \
    && useradd --create-home --uid 1000 user \
    && install -d -o user /work
COPY demo/web_demo.py /app/web_demo.py
COPY demo/web_parts /app/web_parts
USER user
WORKDIR /work
EXPOSE 7860
CMD ["python", "/app/web_demo.py", "--host", "0.0.0.0"]
