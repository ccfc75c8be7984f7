#!/bin/sh
# Installs the foreign peers of the tests: SIPp, baresip, dnsmasq, the namespace tools, a WebSocket client and PostgreSQL
# from the distribution, sippy and schemathesis (requirements.txt) into a Python environment of their own.
# Usage: install.sh FOLDER   (the environment; the tests give target/peers)
set -eu
folder=${1:?usage: install.sh FOLDER}
missing=
for pair in sipp:sip-tester baresip:baresip-core ip:iproute2 nft:nftables openssl:openssl \
    fsfreeze:util-linux mount:mount mkfs.ext4:e2fsprogs /usr/sbin/dnsmasq:dnsmasq-base; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair#*:}"
done
ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 ||
    missing="$missing postgresql"
python3 -c 'import venv, ensurepip' 2>/dev/null || missing="$missing python3-venv"
/usr/bin/python3 -c 'import websockets' 2>/dev/null || missing="$missing python3-websockets"
if [ -n "$missing" ]; then
    echo "peers: installing$missing"
    [ "$(id -u)" = 0 ] || { echo "peers: run as root: apt-get install$missing" >&2; exit 1; }
    apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
fi
wanted=$(dirname "$0")/requirements.txt
# What is written there last is what was installed whole.
if ! cmp -s "$wanted" "$folder/installed.txt"; then
    echo "peers: installing sippy and schemathesis into $folder"
    python3 -m venv "$folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps -r "$wanted"
    cp "$wanted" "$folder/installed.txt"
fi
echo "peers: $(sipp -v 2>/dev/null | sed -n 's/^ *\(SIPp v[0-9.]*\).*/\1/p'), baresip, dnsmasq, sippy, schemathesis, PostgreSQL ready"
