#!/bin/sh
# A private PostgreSQL server that lives as long as its standard input is open.
# Usage: postgres.sh BIN FOLDER PORT FSYNC   (FSYNC: on, off)
# Writes the name of its folder when the server takes connections: on a socket in that folder, and on
# the port of 127.0.0.1, there with TLS too. User "gate", no password.
set -eu
bin=$1 folder=$(mktemp -d "$2/ringgate-postgres-XXXXXX") port=$3 fsync=$4
trap 'rm -rf "$folder"' EXIT
# The server has a session of its own; this shell has to outlive an interrupted test and stop it.
trap : INT TERM HUP
failed() {
    cat "$folder/log" >&2
    exit 1
}
"$bin/initdb" -D "$folder/db" -U gate -A trust -E UTF8 --locale=C -N >"$folder/log" 2>&1 || failed
openssl req -new -x509 -days 7 -nodes -subj /CN=localhost -out "$folder/db/server.crt" \
    -keyout "$folder/db/server.key" >>"$folder/log" 2>&1 || failed
chmod 600 "$folder/db/server.key"
cat >>"$folder/db/postgresql.conf" <<EOF
listen_addresses = '127.0.0.1'
port = $port
unix_socket_directories = '$folder'
max_connections = 200
fsync = $fsync
full_page_writes = $fsync
ssl = on
EOF
"$bin/pg_ctl" -D "$folder/db" -l "$folder/log" -w -t 60 start >/dev/null || failed
echo "$folder"
# Nobody writes: this ends when the other end is closed, whatever closed it.
cat >/dev/null || :
"$bin/pg_ctl" -D "$folder/db" -m fast -w stop >/dev/null
