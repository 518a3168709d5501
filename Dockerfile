# The service with the ready-made model, on the CPU (docs/serving.md has the commands).
FROM python:3.11.14-slim-bookworm AS build
WORKDIR /build
RUN python -m venv /opt/finrank
# torch first, in a layer that a change of the code leaves alone; from the index of its CPU builds, without CUDA's 3 GB.
COPY constraints.txt ./
RUN /opt/finrank/bin/pip install --no-cache-dir --constraint constraints.txt --extra-index-url https://download.pytorch.org/whl/cpu torch
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN /opt/finrank/bin/pip install --no-cache-dir --constraint constraints.txt .[metrics]

FROM python:3.11.14-slim-bookworm
RUN useradd --create-home --uid 10001 finrank
COPY --from=build /opt/finrank /opt/finrank
ENV PATH=/opt/finrank/bin:$PATH
USER finrank
WORKDIR /home/finrank
EXPOSE 8000
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://localhost:8000/health')"]
# Other machines can reach this address, so that the service starts with a key only: --env FINRANK_API_KEY
CMD ["finrank", "serve", "--model", "finqa-minilm", "--host", "0.0.0.0", "--port", "8000"]
