#!/bin/sh
# Makes a CA and, signed by it, certificates with their keys for a server and for its clients
# (agents, commands), for development and tests. The CA stays as it is when there is one already;
# the pairs are made anew, which a running server notices.
#
#   deploy/dev-certs.sh DIR [NAME|ADDRESS ...]
#
# Further names and addresses are ones under which the server is called, beside localhost. DIR then
# has ca.pem, server.pem, client.pem, and a .key of each that only its owner may read.
set -eu

[ $# -ge 1 ] || { echo "usage: $0 DIR [NAME|ADDRESS ...]" >&2; exit 2; }
command -v openssl >/dev/null || { echo "$0: there is no openssl: apt-get install openssl" >&2; exit 1; }
dir=$1
shift
umask 077
mkdir -p "$dir"
work=$(mktemp -d "$dir/.making.XXXXXX")
trap 'rm -rf "$work"' EXIT

names="DNS:localhost,IP:127.0.0.1,IP:::1"
for name in "$@"; do
    case $name in
        *:* | *[0-9].[0-9]*.[0-9]*.[0-9]*) names="$names,IP:$name" ;;
        *) names="$names,DNS:$name" ;;
    esac
done

cat >"$work/config" <<END
[req]
distinguished_name = name
prompt = no
[name]
O = Sentinel development
[ca]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = $names
[client]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
subjectAltName = DNS:client
END

new_key() {
    openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null ||
        openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"
}

if [ ! -e "$dir/ca.pem" ]; then
    new_key "$dir/ca.key"
    openssl req -new -x509 -config "$work/config" -extensions ca -subj "/CN=Sentinel development CA" \
        -key "$dir/ca.key" -days 3650 -out "$work/ca.pem"
    mv "$work/ca.pem" "$dir/ca.pem"
fi

for pair in server client; do
    new_key "$work/$pair.key"
    openssl req -new -config "$work/config" -subj "/CN=Sentinel $pair" -key "$work/$pair.key" \
        -out "$work/$pair.csr"
    openssl x509 -req -in "$work/$pair.csr" -CA "$dir/ca.pem" -CAkey "$dir/ca.key" \
        -set_serial "0x$(openssl rand -hex 16 | sed 's/^./5/')" -days 365 \
        -extfile "$work/config" -extensions "$pair" -out "$work/$pair.pem" 2>/dev/null
    mv "$work/$pair.key" "$dir/$pair.key"
    mv "$work/$pair.pem" "$dir/$pair.pem"
done
chmod 644 "$dir"/*.pem
echo "$dir has ca.pem, server.pem and client.pem with their keys" >&2
