# One binary on a base: the control plane's images, and the sandbox of pods.
ARG BASE
FROM ${BASE}
ARG NAME
COPY ${NAME} /usr/local/bin/${NAME}
