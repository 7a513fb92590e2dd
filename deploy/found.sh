#!/bin/sh
# Begins an installation whose roles run apart: its registry, its fleet, and the plugins in it.
# Whatever is there already is left as it is, so that it can be run at each start.
#
#   found.sh begin FOLDER          the registry's folder and keys, the fleet and its operator's key
#   found.sh publish FOLDER URL    the plugins, at the registry that serves FOLDER/registry at URL
#
# What it makes in FOLDER:
#   registry/      what `sentinel registry --data` serves; enrolment.json in it is for hosts
#   owner/         root.key, targets.key, operator.key, sentinel.token: whoever reads these owns
#                  everything. On a real installation they belong offline.
#   fleet.json     whose word counts, for servers and workers (--operators)
#   agents.key     with which agents' keys are wrapped, for servers and workers (--key)
#   enrolment.json what hosts begin with at the registry (--enrolment)
#
#   SENTINEL                 the program                          [default: sentinel, on PATH]
#   SENTINEL_PLUGINS         folder of plugins, packed            [default: /usr/lib/sentinel/plugins]
#   SENTINEL_PUBLISHER       publisher of these plugins           [default: sentinel]
#   SENTINEL_PUBLISHER_KEY   its secret key, to publish with
#   SENTINEL_REGISTRY_CA     certificates (PEM) that are trusted for the registry
#   SENTINEL_PUBLISHER_PUB   file with its public key, `ed25519:…` [default: beside the key, .pub for .key]
set -eu
umask 077

sentinel=${SENTINEL:-sentinel}
publisher=${SENTINEL_PUBLISHER:-sentinel}

die() {
  echo "found.sh: $*" >&2
  exit 1
}

begin() {
  mkdir -p "$folder/owner"
  # Its last file is the enrolment: what was cut short before that begins anew.
  if [ ! -e "$folder/registry/enrolment.json" ]; then
    mkdir -p "$folder/registry"
    find "$folder/registry" -mindepth 1 -delete
    rm -f "$folder/owner/root.key" "$folder/owner/targets.key"
    "$sentinel" registry --data "$folder/registry" init --offline "$folder/owner" >/dev/null
  fi
  if [ ! -e "$folder/fleet.json" ]; then
    rm -f "$folder/owner/operator.key" "$folder/owner/operator.fleet"
    "$sentinel" fleet init --key "$folder/owner/operator.key" >"$folder/fleet.json.part"
    mv "$folder/fleet.json.part" "$folder/fleet.json"
  fi
  if [ ! -e "$folder/agents.key" ]; then
    head -c 32 /dev/urandom >"$folder/agents.key.part"
    mv "$folder/agents.key.part" "$folder/agents.key"
  fi
  # What hosts read of it is no secret.
  cp "$folder/registry/enrolment.json" "$folder/enrolment.json"
  chmod 644 "$folder/fleet.json" "$folder/enrolment.json"
}

# Targets are signed for 90 days and the root for a year: both anew once a month.
renew() {
  stamp=$folder/owner/renewed
  if [ -n "$(find "$stamp" -mtime -30 2>/dev/null)" ]; then
    return
  fi
  "$sentinel" registry renew targets --key "$folder/owner/targets.key" "$@" >/dev/null
  "$sentinel" registry renew root --key "$folder/owner/root.key" "$@" >/dev/null
  touch "$stamp"
}

publish() {
  key=${SENTINEL_PUBLISHER_KEY:?the secret key of the publisher, a file}
  pub=${SENTINEL_PUBLISHER_PUB:-${key%.key}.pub}
  plugins=${SENTINEL_PLUGINS:-/usr/lib/sentinel/plugins}
  token=$folder/owner/$publisher.token
  set -- --registry "$url" --enrolment "$folder/registry/enrolment.json"
  [ -z "${SENTINEL_REGISTRY_CA:-}" ] || set -- "$@" --ca "$SENTINEL_REGISTRY_CA"
  export XDG_DATA_HOME="$folder/owner/known"
  if [ -e "$folder/owner/approved" ]; then
    renew "$@"
  else
    public=$(sed -n 's/.*\(ed25519:[A-Za-z0-9+\/=]*\).*/\1/p' "$pub" | head -n 1)
    [ -n "$public" ] || die "there is no public key of $publisher in $pub"
    "$sentinel" registry approve "$publisher" "$public" --key "$folder/owner/targets.key" "$@" >/dev/null
    touch "$folder/owner/renewed" "$folder/owner/approved"
  fi
  if [ ! -s "$token" ]; then
    "$sentinel" registry --data "$folder/registry" token create "$publisher" >"$token.part"
    mv "$token.part" "$token"
  fi
  for plugin in "$plugins"/*.wasm; do
    [ -e "$plugin" ] || die "there are no plugins in $plugins"
    "$sentinel" plugin publish "$plugin" --key "$key" --token-file "$token" "$@" >/dev/null
  done
}

verb=${1:-}
folder=${2:-}
url=${3:-}
[ -n "$folder" ] || die "usage: found.sh begin FOLDER | found.sh publish FOLDER URL"
case $verb in
begin) begin ;;
publish)
  [ -n "$url" ] || die "usage: found.sh publish FOLDER URL"
  publish
  ;;
*) die "there is no verb '$verb': begin, or publish" ;;
esac
