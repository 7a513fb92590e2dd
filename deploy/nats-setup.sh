#!/bin/sh
# Makes the stream of Sentinel's bus on NATS, and gives it the bounds of the configuration.
# With --check nothing of a stream that is there is changed, and the exit code is 1 where it is
# not as configured. The user that the configuration names must be allowed to manage streams;
# servers and workers make the stream by themselves where theirs is too.
#
#   SENTINEL          the program             [default: sentinel, on PATH]
#   SENTINEL_CONFIG   the configuration       [default: /etc/sentinel/sentinel.yaml]
set -eu
exec "${SENTINEL:-sentinel}" bus setup \
  --config "${SENTINEL_CONFIG:-/etc/sentinel/sentinel.yaml}" "$@"
