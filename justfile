# The habits. Nothing depends on just: each recipe is a command or two that can be typed.

# What there is
default:
    @just --list

# Formatting, lints, and the dependencies when cargo-deny is installed
check:
    cargo fmt --check
    cargo clippy --locked --all-targets -- -D warnings
    cargo clippy --locked --all-targets --no-default-features -- -D warnings
    if command -v cargo-deny >/dev/null; then cargo deny check bans licenses sources; fi

# Every test that needs nothing but Rust
test:
    cargo test --locked

# The program on a real Kafka, which this starts and stops
kafka *ARGS:
    cargo build --release --locked
    LONGSHORE_BIN={{justfile_directory()}}/target/release/longshore tests/kafka/kafka run -- tests/kafka/suite {{ARGS}}

# The program on a Kafka of three nodes, which this starts and stops; --long for all of it
cluster *ARGS:
    cargo build --release --locked
    LONGSHORE_BIN={{justfile_directory()}}/target/release/longshore tests/kafka/kafka -o offsets.topic.num.partitions=1 cluster run 3 -- tests/kafka/cluster {{ARGS}}

# Longshore beside its references, end to end; ARGS as in benches/compare
bench *ARGS:
    cargo build --release --locked
    cargo bench --locked --bench compare -- {{ARGS}}

# The long forms: 100,000 seeds of each simulator, and all that is shown on real Kafkas
soak:
    LONGSHORE_SEEDS=100000 cargo test --release --locked --lib
    just kafka --long
    cargo build --release --locked --bins --example dump --example full_commits
    tests/kafka/kafka run -- tests/kafka/progress --long
    tests/kafka/readers --long
    KAFKA_VERSION=3.9.2 tests/kafka/readers
    tests/kafka/kafka run -- tests/kafka/loss --long
    KAFKA_VERSION=3.9.2 tests/kafka/kafka run -- tests/kafka/loss
    tests/kafka/kafka run -- tests/kafka/secure
    just cluster --long
    tests/kafka/groups node --long
    KAFKA_VERSION=3.9.2 GROUPS_CLASSIC_ONLY=yes tests/kafka/groups node --long

# Static binaries into target/dist: x86_64, aarch64, armv7, or those named
dist *ARCH:
    tests/static/build {{ARCH}}

# The crate's documentation, with warnings as errors
doc:
    RUSTDOCFLAGS=-Dwarnings cargo doc --locked --no-deps
