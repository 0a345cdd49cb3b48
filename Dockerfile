# All binaries of Dendrite in one small image, static and without a shell; a
# service says which of them it runs (docker-compose.yml).

FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o /out/ ./cmd/...
# Volumes begin as these folders, and so belong to who runs the roles.
RUN mkdir -p /folders/keys /folders/tls /folders/data && chmod 700 /folders/*

FROM scratch
LABEL org.opencontainers.image.title="Dendrite" \
      org.opencontainers.image.description="A Matrix homeserver built around append-only event logs" \
      org.opencontainers.image.source="https://github.com/matrix-org/dendrite" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/ /
COPY --from=build --chown=65532:65532 /folders/ /
USER 65532:65532
ENTRYPOINT ["/dendrite"]
