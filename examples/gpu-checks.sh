#!/usr/bin/env bash
# The checks that need a GPU: NVML (`lindos health check`), the burn-in of GPUs, and, with PyTorch, how long
# collectives take.
#
#     examples/gpu-checks.sh [SECONDS [PLATFORM]]       60 seconds, no platform
#
# LINDOS names the binary; without it, target/release/lindos or the one on the PATH. Ends with 0 if
# all is well, 1 if something failed, 2 if it cannot be run, and 77 if there is no GPU to check.
set -uo pipefail

seconds="${1:-60}"
platform="${2:-}"
root="$(cd "$(dirname "$0")/.." && pwd)"

lindos="${LINDOS:-}"
if [ -z "$lindos" ] && [ -x "$root/target/release/lindos" ]; then
    lindos="$root/target/release/lindos"
fi
lindos="${lindos:-$(command -v lindos || true)}"
if [ -z "$lindos" ] || ! "$lindos" --version >/dev/null 2>&1; then
    echo "error: there is no lindos to run" >&2
    echo "hint: cargo build --release, or LINDOS=/path/to/lindos $0" >&2
    exit 2
fi
case "$seconds" in
'' | *[!0-9]* | 0)
    echo "error: \`$seconds\` is no number of seconds" >&2
    echo "hint: $0 60 hgx-h100" >&2
    exit 2
    ;;
esac

echo "== $("$lindos" --version), $(uname -srm)"
has_driver=no
if [ -e /proc/driver/nvidia/version ]; then
    has_driver=yes
    head -n 1 /proc/driver/nvidia/version
fi

echo "== lindos health check (GPUs)"
checks="$("$lindos" health check)" || exit 2
printf '%s\n' "$checks" | head -n 1
printf '%s\n' "$checks" | grep -E '^gpu\.' || echo "no check of a GPU ran"
# Those of the kernel log too: `gpu.xid.79 0000:17:00: node-fatal, suggests reboot`.
findings="$(printf '%s\n' "$checks" | grep -cE '^gpu\..*, suggests ')"
looked="$(printf '%s\n' "$checks" | grep -cE '^gpu\.[^ ]+ +(ok|finding) ')"

echo "== lindos burnin --only gpu --seconds $seconds"
arguments=(burnin --only gpu --seconds "$seconds")
if [ -n "$platform" ]; then
    arguments+=(--platform "$platform")
fi
burnin="$("$lindos" "${arguments[@]}")"
status=$?
printf '%s\n' "$burnin"
if [ "$status" -eq 2 ]; then
    exit 2
fi
skipped="$(printf '%s\n' "$burnin" | grep -cE '^gpu\.count .* skipped ')"

# What a collective that spins is told by: >= 90 %, <= 1 %, <= 45 % of the limit (docs/health.md).
if command -v nvidia-smi >/dev/null 2>&1; then
    echo "== what the GPUs do now"
    nvidia-smi --query-gpu=index,utilization.gpu,utilization.memory,power.draw,power.limit \
        --format=csv,noheader || true
fi

# How long collectives take, as the `lindos` package reads it (docs/health.md).
recorder="not tried: python3 has no PyTorch with CUDA"
if python3 -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
    echo "== collectives, by PyTorch's flight recorder"
    recorder="$(TORCH_NCCL_ENABLE_TIMING=1 PYTHONPATH="$root/python" RANK=0 WORLD_SIZE=1 \
        MASTER_ADDR=127.0.0.1 MASTER_PORT=29517 timeout 120 python3 - <<'EOF'
import time

import torch
import torch.distributed as dist
from lindos import _waits

dist.init_process_group("nccl")
tensor = torch.ones(1 << 24, device="cuda")
for _ in range(200):
    dist.all_reduce(tensor)
torch.cuda.synchronize()
time.sleep(2)  # Until PyTorch's watchdog has looked at them.
total = _waits.total()
dist.destroy_process_group()
print("200 all-reduces took", "NOTHING THAT IS TOLD" if total is None else f"{total * 1000:.1f} ms")
EOF
    )" || recorder="FAILED"
    echo "$recorder"
fi

echo "== summary"
echo "checks of GPUs that could look: $looked; findings: $findings"
echo "collectives that tell how long they take: $recorder"
if [ "$skipped" -gt 0 ]; then
    if [ "$has_driver" = yes ]; then
        echo "THE DRIVER IS THERE AND NO GPU COULD BE USED: see the burn-in above"
        exit 1
    fi
    echo "NO GPU HERE: nothing was checked on one"
    exit 77
fi
if [ "$status" -ne 0 ] || [ "$findings" -gt 0 ]; then
    echo "NOT WELL: burn-in ended with $status, $findings findings"
    exit 1
fi
if [ "$looked" -eq 0 ]; then
    echo "HALF OF IT: the burn-in passed, and no check could look through NVML"
    exit 1
fi
echo "WELL: the burn-in passed, no findings"
