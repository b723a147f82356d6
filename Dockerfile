# syntax=docker/dockerfile:1
# deps -> packages -> weights -> app: a change of code reinstalls no dependency, and a worker that is updated pulls only the last
# small layers.
#
# PyTorch 2.12 is published for CUDA 12.6, 13.0 and 13.2 (https://github.com/pytorch/pytorch/pull/182849). 12.6 runs with every
# driver of the 12.x line (>= 525.60.13) or newer and has kernels from Maxwell to Hopper (sm_50 .. sm_90). Blackwell cards need
# --build-arg BASE_TAG=2.12.1-cuda13.0-cudnn9-runtime and a driver >= 580.65.06. See docs/deploy.md.
ARG BASE_TAG=2.12.1-cuda12.6-cudnn9-runtime

FROM pytorch/pytorch:${BASE_TAG} AS deps
WORKDIR /app
COPY requirements/worker.txt requirements/build.txt requirements/without_base.py requirements/install_image.sh requirements/
RUN sh requirements/install_image.sh deps /opt/venv
ENV PATH=/opt/venv/bin:$PATH
# One torch, the base's: another version would mean that the pins and the base have drifted apart.
RUN python -c "import torch, torchvision; assert torch.__version__.startswith('2.12.1'), torch.__version__"

FROM deps AS packages
COPY client/ client/
COPY processors/ processors/
COPY gpu-worker/ gpu-worker/
COPY weights/manifest.toml weights/lite_x4.safetensors weights/lite_x2.safetensors weights/
RUN sh requirements/install_image.sh packages /opt/venv && python -m compileall -q client processors gpu-worker

FROM packages AS weights
# Names of weights/manifest.toml to bake in, separated by spaces. Empty bakes none: mount a volume and set WEIGHTS_DIR to it.
# Every file is checked against the manifest's SHA-256 and size before it is kept; a wrong one fails the build.
ARG WEIGHTS="realesr-general-x4v3 realesr-general-wdn-x4v3 RealESRGAN_x4plus yolov8n"
RUN mkdir /weights && if [ -n "$WEIGHTS" ]; then gpu-worker weights pull --dir /weights $WEIGHTS && rm -f /weights/.*.lock; fi

FROM packages AS app
COPY --from=weights /weights /weights
RUN useradd --uid 10001 --create-home worker
ENV WEIGHTS_DIR=/weights \
    RUNPOD_LOG_LEVEL=INFO \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    YOLO_CONFIG_DIR=/tmp \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=video,compute,utility
USER 10001
# The worker pulls jobs and listens on no port: RunPod watches the SDK's ping, and Docker has nothing to probe.
HEALTHCHECK NONE
CMD ["python", "-u", "gpu-worker/handler.py"]
