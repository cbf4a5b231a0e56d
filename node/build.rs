//! Puts hls.js where the player page's server includes it from: as `scripts/web` fetched it, else an empty file.

use std::path::PathBuf;
use std::{env, fs, io};

const LIBRARY: &str = "web/node_modules/hls.js/dist/hls.min.js";

fn main() -> io::Result<()> {
    let directory = |name| env::var_os(name).map(PathBuf::from).ok_or_else(|| io::Error::other(name));
    let library = directory("CARGO_MANIFEST_DIR")?.join(LIBRARY);
    let included = directory("OUT_DIR")?.join("hls.min.js");
    println!("cargo::rerun-if-changed=build.rs");
    if library.is_file() {
        println!("cargo::rerun-if-changed={LIBRARY}");
        fs::write(included, fs::read(library)?)
    } else {
        // A missing file would count as changed at every build; the directory changes when it appears in there.
        println!("cargo::rerun-if-changed=web");
        fs::write(included, "")
    }
}
