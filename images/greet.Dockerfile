# The example's handler.
#   docker build -f images/greet.Dockerfile -t greet .
FROM rust:1-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The image's own toolchain, rather than one that rust-toolchain.toml would fetch.
RUN rm -f rust-toolchain.toml \
  && cargo build --release --locked --package greet \
  && images/rootfs target/release/greet /rootfs

FROM scratch
COPY --from=build /rootfs /
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/greet"]
