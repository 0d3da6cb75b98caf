# What one does often. `just` alone lists it.

_list:
    @just --list --unsorted

# Everything that CI checks
ci:
    bash .ci/run

# All tests
test *args:
    cargo test {{ args }}

# Lints, format, and the rules that no compiler knows
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo xtask tidy

# The Python package's tests
test-python:
    cd python && python3 -m unittest

# Train the example, with a control plane and a fleet of its own
run *args:
    cargo run --release -- run examples/tiny-gpt.toml {{ args }}

# A control plane with three nodes, until Ctrl-C
up *args:
    cargo run --release -- up {{ args }}

# Licences, advisories and sources of all dependencies (needs cargo-deny)
deny:
    cargo deny check
