//! The rules about dependencies: nothing in the tree compiles C, and every licence is one that we allow.
//!
//! Names are looked up in `Cargo.lock`, which holds the crates of every platform and of development too, and some that
//! are named there and never built; those are listed here, and looked for in what `cargo tree` says of each of our targets.
//! Build scripts, `links` and licences come from `cargo metadata` for this host, whose crates are there when this test runs.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use serde_json::Value;

/// What compiles C, or needs a C library or a C compiler's library.
const COMPILERS: [&str; 8] = ["cc", "cmake", "bindgen", "pkg-config", "vcpkg", "nasm-rs", "autotools", "ring"];

/// What we build for.
pub(crate) const TARGETS: [&str; 4] = [
    "x86_64-unknown-linux-gnu",
    "x86_64-unknown-linux-musl",
    "aarch64-unknown-linux-musl",
    "armv7-unknown-linux-musleabihf",
];

/// Crates that `Cargo.lock` names and nobody builds: a feature that is off would want them if it were on.
const NEVER_BUILT: [(&str, &str); 2] = [("ring", "a provider of rustls-webpki that is off"), ("cc", "of ring")];

/// Crates named `…-sys` that compile nothing, with the reason.
const BINDINGS_ONLY: [(&str, &str); 6] = [
    ("core-foundation-sys", "declarations for macOS; never built for Linux"),
    ("js-sys", "declarations for WebAssembly; never built for Linux"),
    ("linux-raw-sys", "constants and structs of the kernel's interface, generated; no build script"),
    ("security-framework-sys", "declarations for macOS; never built for Linux"),
    ("windows-sys", "declarations for Windows; never built for Linux"),
    ("winapi", "declarations for Windows; never built for Linux"),
];

/// What a build script that compiles C says.
const SIGNS: [&str; 12] = [
    "cc::",
    "cmake::",
    "bindgen::",
    "pkg_config::",
    "vcpkg::",
    "\"cc\"",
    "\"gcc\"",
    "\"clang\"",
    "\"c++\"",
    "\"nasm\"",
    ".c\"",
    "rustc-link-lib",
];

/// A package of the tree, as far as the rules need it.
pub(crate) struct Package {
    pub(crate) name: String,
    /// As in its manifest: an SPDX expression, or the old form with `/` for OR.
    pub(crate) licence: Option<String>,
    /// The native library that it says it links.
    pub(crate) links: Option<String>,
    /// The text of its build script.
    pub(crate) build_script: Option<String>,
}

/// Crates in a `Cargo.lock` that compile C by their name.
pub(crate) fn names(lock: &str) -> Vec<String> {
    let names = lock.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
    names
        .filter(|name| {
            let listed = |list: &[(&str, &str)]| list.iter().any(|(allowed, _)| allowed == name);
            let bound = name.ends_with("-sys") && !listed(&BINDINGS_ONLY);
            (bound || COMPILERS.contains(name)) && !listed(&NEVER_BUILT)
        })
        .map(|name| {
            format!("Cargo.lock: {name} compiles C or wants a C library; `cargo tree -e all -i {name}` tells why")
        })
        .collect()
}

/// The names of the crates that are built for `target`, build scripts and development included. Asks nobody.
pub(crate) fn built(root: &Path, target: &str) -> BTreeSet<String> {
    let arguments = ["tree", "--locked", "--offline", "--all-features", "--target", target, "--edges", "all"];
    let tree = run_cargo(root, &[&arguments[..], &["--prefix", "none", "--format", "{p}"]].concat());
    let names = String::from_utf8_lossy(&tree).lines().filter_map(|l| l.split(' ').next().map(str::to_owned)).collect();
    assert!(BTreeSet::contains(&names, "tokio"), "the tree was not read");
    names
}

/// Crates of which we say that nobody builds them, and somebody does.
pub(crate) fn built_after_all(built: &BTreeSet<String>, target: &str) -> Vec<String> {
    let found = NEVER_BUILT.iter().filter(|(name, _)| built.contains(*name));
    found.map(|(name, why)| format!("{name} is built for {target}, and should not be: {why}")).collect()
}

fn run_cargo(root: &Path, arguments: &[&str]) -> Vec<u8> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo).args(arguments).current_dir(root).output().expect("cargo");
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// This host, as a target.
pub(crate) fn host() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// What `cargo metadata` says of this repository for this host; asks nobody.
pub(crate) fn metadata(root: &Path) -> Value {
    let arguments = ["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", &host()];
    serde_json::from_slice(&run_cargo(root, &arguments)).expect("cargo metadata writes JSON")
}

/// The packages in what `cargo metadata` said that are `built`, without our own. (It knows some that are not.)
pub(crate) fn packages(metadata: &Value, built: &BTreeSet<String>) -> Vec<Package> {
    let packages = metadata["packages"].as_array().expect("packages");
    let foreign = packages.iter().filter(|package| !package["source"].is_null());
    let found: Vec<_> = foreign.map(package).filter(|package| built.contains(&package.name)).collect();
    assert!(found.iter().any(|package| package.name == "tokio"), "the tree was not read");
    found
}

fn package(value: &Value) -> Package {
    let text = |field: &str| value[field].as_str().map(str::to_owned);
    let script = value["targets"].as_array().into_iter().flatten().find(|target| target["kind"][0] == "custom-build");
    let script = script.and_then(|target| target["src_path"].as_str());
    Package {
        name: text("name").expect("a package has a name"),
        licence: text("license"),
        links: text("links"),
        build_script: script.map(|path| fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))),
    }
}

/// What in a package's manifest or build script says that C is compiled or a C library linked.
pub(crate) fn build(package: &Package) -> Vec<String> {
    let name = &package.name;
    let links = package.links.iter().map(|library| format!("{name}: links = \"{library}\""));
    let script = package.build_script.as_deref().unwrap_or_default();
    let signs = SIGNS.iter().filter(|sign| script.contains(**sign));
    links.chain(signs.map(|sign| format!("{name}: its build script has `{sign}`"))).collect()
}

/// The licences that `deny.toml` allows, so that there is one list.
pub(crate) fn allowed_licences(deny: &str) -> Vec<&str> {
    let list = deny.lines().find_map(|line| line.strip_prefix("allow = [")?.strip_suffix(']'));
    let list = list.expect("deny.toml has one line `allow = [...]`");
    list.split(',').map(|licence| licence.trim().trim_matches('"')).collect()
}

/// A package whose licence is missing or not allowed.
pub(crate) fn licence(package: &Package, allowed: &[&str]) -> Option<String> {
    let Some(licence) = &package.licence else {
        return Some(format!("{}: names no licence", package.name));
    };
    (!permits(licence, allowed)).then(|| format!("{}: licence {licence} is not in deny.toml's list", package.name))
}

/// Whether a licence expression can be met with `allowed`. Knows OR, AND and brackets around alternatives, which is
/// all that crates use: `(A OR B) AND C`, `A OR B`, `A/B`.
fn permits(expression: &str, allowed: &[&str]) -> bool {
    let any = |part: &str| {
        let part = part.trim_matches(['(', ')', ' ']).replace('/', " OR ");
        part.split(" OR ").any(|licence| allowed.contains(&licence.trim()))
    };
    // `A OR B AND C` would need precedence; nobody writes it, and it is refused rather than misread.
    let mixed = expression.contains(" OR ") && expression.contains(" AND ") && !expression.contains('(');
    !mixed && expression.split(" AND ").all(any)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> Package {
        Package { name: "a".into(), licence: Some("MIT".into()), links: None, build_script: None }
    }

    #[test]
    fn a_crate_that_compiles_c_is_caught_by_name() {
        for bad in ["cmake", "bindgen", "pkg-config", "zstd-sys", "openssl-sys"] {
            assert_eq!(names(&format!("[[package]]\nname = \"{bad}\"\nversion = \"1.0.0\"\n")).len(), 1, "{bad}");
        }
        let good = "name = \"linux-raw-sys\"\nname = \"windows-sys\"\nname = \"wasm-bindgen\"\n \"cc\",\n";
        assert_eq!(names(good), [] as [&str; 0]);
    }

    #[test]
    fn a_crate_that_is_said_not_to_be_built_is_caught_when_it_is() {
        let built = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(built_after_all(&built(&["tokio", "ring"]), "here").len(), 1);
        assert_eq!(built_after_all(&built(&["tokio"]), "here"), [] as [&str; 0]);
    }

    #[test]
    fn a_build_script_that_compiles_c_is_caught() {
        let says = |script: &str| build(&Package { build_script: Some(script.into()), ..plain() });
        assert!(!says("fn main() { cc::Build::new().file(\"a.c\").compile(\"a\"); }").is_empty());
        assert!(!says("Command::new(\"gcc\")").is_empty());
        assert_eq!(says("println!(\"cargo:rustc-cfg=has_atomics\"); Command::new(rustc)"), [] as [&str; 0]);
        assert_eq!(build(&Package { links: Some("z".into()), ..plain() }), ["a: links = \"z\""]);
    }

    #[test]
    fn a_foreign_licence_is_caught() {
        let allowed = allowed_licences("[licenses]\nallow = [\"Apache-2.0\", \"MIT\"]\n");
        for good in ["MIT", "MIT OR GPL-3.0", "MIT/Apache-2.0", "(MIT OR GPL-3.0) AND Apache-2.0"] {
            let package = Package { licence: Some(good.into()), ..plain() };
            assert_eq!(licence(&package, &allowed), None, "{good}");
        }
        for bad in ["GPL-3.0", "MIT AND GPL-3.0", "(MIT OR Apache-2.0) AND GPL-3.0", "MIT OR GPL-3.0 AND Zlib"] {
            let package = Package { licence: Some(bad.into()), ..plain() };
            assert!(licence(&package, &allowed).is_some(), "{bad}");
        }
        assert!(licence(&Package { licence: None, ..plain() }, &allowed).is_some());
    }
}
