//! Rules of the house that no compiler checks: what the protocol may depend on, how long a file may be, what must not be
//! left lying about.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Crates that do IO, read clocks or draw randomness, by the beginning of their names.
const IMPURE: [&str; 12] = [
    "async-std",
    "futures",
    "getrandom",
    "hyper",
    "libp2p",
    "mio",
    "quinn",
    "rand",
    "reqwest",
    "smol",
    "socket2",
    "tokio",
];

/// What would let the outside world, or chance, into the machines.
const IMPURE_PATHS: [&str; 14] = [
    "Instant",
    "SystemTime",
    "HashMap",
    "HashSet",
    "RandomState",
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::process",
    "std::thread",
    "thread_local!",
    "static mut",
    "async fn",
];

/// A file one can still read top-down.
const LINES_MAX: usize = 500;

#[test]
fn the_protocol_depends_on_nothing_that_does_io() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let tree = Command::new(cargo)
        .current_dir(root())
        .args(["tree", "--offline", "--package", "starling-proto", "--edges", "normal,build", "--target", "all"])
        .args(["--prefix", "none", "--format", "{p}"])
        .output()
        .expect("cargo runs");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8_lossy(&tree.stdout);
    let crates: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(crates.contains(&"starling-proto") && crates.contains(&"bytes"), "this is no tree: {tree}");
    let impure: Vec<_> = crates.iter().filter(|name| IMPURE.iter().any(|bad| name.starts_with(bad))).collect();
    assert!(impure.is_empty(), "starling-proto depends on {impure:?}");
}

#[test]
fn the_protocol_reads_no_clock_and_draws_no_lots() {
    let sources = sources(&root().join("proto/src"));
    assert!(sources.len() > 20, "these are not the sources: {sources:?}");
    let found = find(&sources, |line| IMPURE_PATHS.into_iter().find(|path| names(line, path)));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_file_can_be_read_at_a_sitting() {
    let long = sources(&root()).into_iter().filter_map(|path| {
        let lines = read(&path).lines().count();
        (lines > LINES_MAX).then(|| format!("{}: {lines} lines, more than {LINES_MAX}", path.display()))
    });
    let long: Vec<String> = long.collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn nothing_is_left_for_later() {
    // Put together here, or this file would find itself.
    let left =
        [concat!("FIX", "ME"), concat!("TO", "DO"), concat!("XX", "X"), concat!("db", "g!("), concat!("to", "do!(")];
    let left = [left.as_slice(), &[concat!("unimpl", "emented!(")]].concat();
    let found = find(&sources(&root()), |line| left.iter().copied().find(|mark| line.contains(mark)));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().expect("this package lies in the workspace").to_owned()
}

/// All Rust files below `directory`, but for what programs put there.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        for path in entries.map(|entry| entry.expect("an entry").path()) {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let made = path.join("CACHEDIR.TAG").exists() || name == "target" || name == "node_modules";
            if path.is_dir() && !name.starts_with('.') && !made {
                open.push(path);
            } else if name.ends_with(".rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Lines for which `mark` finds something, as `file:line: what`.
fn find(sources: &[PathBuf], mark: impl Fn(&str) -> Option<&'static str>) -> Vec<String> {
    let in_file = |path: &PathBuf| {
        let text = read(path);
        let found = text.lines().enumerate().filter_map(|(at, line)| mark(line).map(|what| (at + 1, what)));
        found.map(|(at, what)| format!("{}:{at}: {what}", path.display())).collect::<Vec<_>>()
    };
    sources.iter().flat_map(in_file).collect()
}

/// Whether code (not a comment) names `path` as a whole word.
fn names(line: &str, path: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(path).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + path.len()..].chars().next();
        !before.is_some_and(part_of_word) && !after.is_some_and(part_of_word)
    })
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
