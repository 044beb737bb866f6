#!/usr/bin/env bash
# Layers may include downwards only: contract (include/mempool/shm) <- library (include/mempool,
# client) and daemon; tool (ctl) -> library's public headers. Prints each include that points elsewhere.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

failed=0

# forbid FOLDER PATTERN: no file below FOLDER includes a path that PATTERN (ERE) matches.
forbid() {
    [ -d "$1" ] || return 0
    local found
    found=$(grep -rnE --include='*.hpp' --include='*.h' --include='*.cpp' \
        "^[[:space:]]*#[[:space:]]*include[[:space:]]*[<\"](\.\./)*($2)" "$1" || true)
    if [ -n "$found" ]; then
        printf '%s must not include %s:\n%s\n' "$1" "$2" "$found"
        failed=1
    fi
}

forbid include/mempool 'client/|daemon/|ctl/'
forbid include/mempool/shm 'mempool/(client|slot|error|handle|fast_path|inspect)\.(hpp|h)|mempool/mempool\.h'
# The floors of the contract: each uses those below; wire.hpp stands beside the words.
forbid include/mempool/shm/words 'mempool/shm/(depot|lane|recovery)/'
forbid include/mempool/shm/depot 'mempool/shm/(lane|recovery)/'
forbid include/mempool/shm/lane 'mempool/shm/recovery/'
forbid include/mempool/shm 'mempool/shm/wire\.hpp'
forbid client 'daemon/|ctl/'
forbid daemon 'client/|ctl/'
# The floors of the daemon: each uses those below.
forbid daemon/base 'daemon/(config|storage|supervision|control)/'
forbid daemon/config 'daemon/(storage|supervision|control)/'
forbid daemon/storage 'daemon/(supervision|control)/'
forbid daemon/supervision 'daemon/control/'
forbid ctl 'daemon/|client/|mempool/shm/'
exit "$failed"
