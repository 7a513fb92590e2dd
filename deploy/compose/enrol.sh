#!/bin/sh
# Makes the token with which the agent enrols, once: with the first server's own API token.
#
#   enrol.sh SERVER_FOLDER AGENT_FOLDER URL CA
set -eu
umask 077
server=$1 agent=$2 url=$3 ca=$4
if [ -e "$agent/identity.json" ]; then
  exit 0
fi
SENTINEL_TOKEN=$(cat "$server/api.token")
export SENTINEL_TOKEN
sentinel token create --server "$url" --ca "$ca" >"$agent/token.part"
mv "$agent/token.part" "$agent/token"
