# The container that polls for the user's one.
#   docker build -f images/worker-sidecar.Dockerfile -t conductor-worker-sidecar .
FROM rust:1-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The image's own toolchain, rather than one that rust-toolchain.toml would fetch.
RUN rm -f rust-toolchain.toml \
  && cargo build --release --locked --package worker-sidecar \
  && images/rootfs target/release/worker-sidecar /rootfs

FROM scratch
COPY --from=build /rootfs /
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/worker-sidecar"]
