#!/bin/sh
# Instructions per scan of the 900-byte INVITE: two runs under callgrind, divided by the difference.
# Usage: instructions.sh SCAN_ONCE_BINARY
set -eu
binary=${1:?usage: instructions.sh SCAN_ONCE_BINARY}
count() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$binary" "$1" 2>&1 |
        sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}
few=$(count 1000)
many=$(count 11000)
echo "scan: $(((many - few) / 10000)) instructions per 900-byte INVITE (callgrind, $binary)"
