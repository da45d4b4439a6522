//! Makes the static binary small.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // The linker of these targets is rust-lld (.cargo/config.toml): functions that have come out the same become one.
    if std::env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "musl") {
        println!("cargo:rustc-link-arg-bins=--icf=all");
        println!("cargo:rustc-link-arg-bins=-O2");
    }
}
