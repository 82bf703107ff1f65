#!/bin/bash
# Certificates for TLS between the nodes of a Ray, in a folder of mode 700; needs OpenSSL 3.
#
#   certificates.sh ca FOLDER     once, where you sit: ca.crt and ca.key
#   certificates.sh node FOLDER   on each node, over a copy of that folder: node.crt and node.key, for the node's own addresses
set -euo pipefail
umask 077
mkdir -p "$2" && cd "$2"

certificate() {  # $1: name of the files; $2: common name; what follows: how it is signed, and for what
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -sha256 -days 3650 -subj "/CN=$2" \
    -config <(printf '[req]\ndistinguished_name=dn\n[dn]\n') -keyout "$1.key" -out "$1.crt" "${@:3}" 2> /dev/null
}

case $1 in
  ca) certificate ca sweeper-ray -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign ;;
  node)
    addresses=$(hostname -I | tr ' ' '\n' | sed '/^$/d; s/^/,IP:/' | tr -d '\n')
    certificate node "$(hostname)" -CA ca.crt -CAkey ca.key -addext basicConstraints=critical,CA:FALSE \
      -addext "subjectAltName=DNS:localhost,DNS:$(hostname),IP:127.0.0.1$addresses" ;;
  *) echo "usage: certificates.sh ca|node FOLDER" >&2; exit 2 ;;
esac
