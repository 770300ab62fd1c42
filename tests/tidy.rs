//! What holds of the sources as a whole: arrows between floors, sizes of files, names, lists that must be equal.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Imports from a floor to one further down the list of `src/lib.rs`, with the reason that each stands for.
const ALLOWED: &[(&str, &str, &str)] = &[
    ("source/services/mod.rs", "views", "what a look-up asks a service is resolved where look-ups are"),
    (
        "source/tables/file.rs",
        "views",
        "a network file is read whole before it is handed on, as a look-up will read it",
    ),
    (
        "source/tables/rows.rs",
        "decode",
        "rows of a reference are compared with those before, so the source decodes them",
    ),
];

/// So many of them at most.
const ALLOWED_MAX: usize = 9;

/// Lines of a file at most.
const LINES_MAX: usize = 500;

/// Combinators that have a form which takes a name.
const UNNAMED: [&str; 6] =
    [".arrange_by_key()", ".arrange_by_self()", ".reduce(", ".threshold(", ".distinct()", ".import("];

/// Calls that build an operator of timely, and how many arguments stand before its name.
const BUILDERS: [(&str, usize); 9] = [
    ("OperatorBuilder::new", 0),
    (".unary", 1),
    (".unary_notify", 1),
    (".unary_frontier", 1),
    (".binary", 2),
    (".binary_notify", 2),
    (".binary_frontier", 2),
    (".sink", 1),
    ("operators::source", 1),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All `.rs` files below a folder, by their path from it, with `/`.
fn sources(folder: &Path) -> BTreeMap<String, String> {
    fn walk(folder: &Path, from: &str, found: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("the folder is readable").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
            if path.is_dir() {
                walk(&path, &format!("{from}{name}/"), found);
            } else if name.ends_with(".rs") {
                found.insert(format!("{from}{name}"), read(&path));
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(folder, "", &mut found);
    assert!(!found.is_empty(), "{} is empty", folder.display());
    found
}

/// A file without its comments.
fn code(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The floors, in the order of the data.
fn floors() -> Vec<String> {
    let lib = read(root().join("src/lib.rs"));
    lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).map(str::to_owned).collect()
}

/// The floors that a file names.
fn named(code: &str, floors: &[String]) -> BTreeSet<usize> {
    let named = code.split("crate::").skip(1).filter_map(|rest| {
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        floors.iter().position(|floor| *floor == name)
    });
    named.collect()
}

#[test]
fn floors_use_those_above_them_but_for_the_listed_places() {
    let (floors, files) = (floors(), sources(&root().join("src")));
    let mut wrong = Vec::new();
    let mut arrows: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (path, text) in &files {
        let code = code(text);
        let own = path.split('/').next().unwrap_or_default().trim_end_matches(".rs");
        let Some(own) = floors.iter().position(|floor| floor == own) else { continue };
        if code.contains("crate::{") {
            wrong.push(format!(
                "src/{path} imports from several floors by one `use crate::{{..}}`; write one `use` for each"
            ));
        }
        arrows.extend(named(&code, &floors).into_iter().filter(|&to| to > own).map(|to| (&**path, &*floors[to])));
    }
    let allowed: BTreeSet<(&str, &str)> = ALLOWED.iter().map(|(path, to, _)| (*path, *to)).collect();
    for (path, to) in arrows.difference(&allowed) {
        wrong.push(format!(
            "src/{path} uses {to}, which is further down the list of src/lib.rs: move what both need up (mostly to flow), or \
             list it in tests/tidy.rs with a reason"
        ));
    }
    for (path, to) in allowed.difference(&arrows) {
        wrong.push(format!("src/{path} does not use {to} any more: take it off the list in tests/tidy.rs"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(ALLOWED.len() <= ALLOWED_MAX, "{} arrows point upwards, {ALLOWED_MAX} may", ALLOWED.len());
    assert!(ALLOWED.iter().all(|(_, _, reason)| reason.len() > 20), "an arrow without a reason");
}

#[test]
fn no_file_is_longer_than_a_reader_s_patience() {
    for folder in ["src", "dataflows", "tests", "benches"] {
        for (path, text) in sources(&root().join(folder)) {
            let lines = text.lines().count();
            assert!(
                lines <= LINES_MAX,
                "{folder}/{path} has {lines} lines, {LINES_MAX} at most; split it by what it is about"
            );
        }
    }
}

/// The arguments of a call, as they are written, from behind its opening bracket on.
fn arguments(rest: &str) -> Vec<String> {
    let (mut depth, mut text, mut arguments) = (0, false, vec![String::new()]);
    for c in rest.chars() {
        match c {
            '"' => text = !text,
            '(' | '[' | '{' if !text => depth += 1,
            ')' | ']' | '}' if !text => {
                if depth == 0 {
                    break;
                }
                depth -= 1;
            }
            ',' if !text && depth == 0 => {
                arguments.push(String::new());
                continue;
            }
            _ => {}
        }
        arguments.last_mut().expect("one").push(c);
    }
    arguments.into_iter().map(|argument| argument.trim().to_owned()).collect()
}

/// Behind the opening bracket of a call, if its name ends here; types between `::<` and `>` are skipped.
fn call(rest: &str) -> Option<&str> {
    let Some(types) = rest.strip_prefix("::<") else { return rest.strip_prefix('(') };
    let mut depth = 1;
    let end = types.char_indices().find_map(|(at, c)| {
        depth += i32::from(c == '<') - i32::from(c == '>');
        (depth == 0).then_some(at + 1)
    })?;
    types[end..].strip_prefix('(')
}

#[test]
fn every_operator_has_a_name() {
    let mut built = 0;
    for (path, text) in sources(&root().join("src")) {
        let code = code(&text);
        if !code.contains("timely::") && !code.contains("differential_dataflow::") {
            continue;
        }
        for (builder, before) in BUILDERS {
            for call in code.split(builder).skip(1).filter_map(call) {
                let arguments = arguments(call);
                let name = arguments.get(before).map_or("", |name| name.trim_end_matches(".to_owned()"));
                assert!(
                    !["", "\"\"", "String::new()", "Default::default()"].contains(&name),
                    "src/{path}: {builder}({}) has no name: whoever looks for a slow operator sees it by that",
                    arguments[..arguments.len().min(before + 1)].join(", ")
                );
                built += 1;
            }
        }
        for unnamed in UNNAMED {
            assert!(
                !code.contains(unnamed),
                "src/{path}: `{unnamed}` has a form ending in `_named`: use it, and say what it is"
            );
        }
    }
    assert!(built >= 7, "{built} operators were found; has the way in which they are built changed?");
}

#[test]
fn the_lists_of_floors_are_equal_and_documented() {
    let (root, floors) = (root(), floors());
    assert!(read(root.join("src/lib.rs")).contains("#![deny(missing_docs)]"), "src/lib.rs must deny missing docs");
    let entries = fs::read_dir(root.join("src")).expect("the folder is there");
    let entries = entries.map(|entry| entry.expect("readable").file_name().into_string().expect("a name"));
    let entries = entries.filter(|name| !["lib.rs", "main.rs"].contains(&&**name));
    let folders: BTreeSet<String> = entries.map(|name| name.trim_end_matches(".rs").to_owned()).collect();
    assert_eq!(folders, floors.iter().cloned().collect(), "src/ and the `pub mod` lines of src/lib.rs differ");
    let readme = read(root.join("README.md"));
    let table = readme.split("## Finding your way").nth(1).expect("README.md has a section Finding your way");
    let line = table.lines().find(|line| line.starts_with("| `src/` |")).expect("the table has a line for `src/`");
    let listed: Vec<&str> = line.split('`').skip(3).step_by(2).collect();
    assert_eq!(listed, floors, "the line of `src/` in README.md and the `pub mod` lines of src/lib.rs differ");
}

/// An operator that takes epochs whole and goes on without input while something waits exists once, and so do the others: they
/// are built from `operators`, not copied.
#[test]
fn no_two_files_share_the_skeleton_of_an_operator() {
    let files: BTreeMap<String, String> =
        sources(&root().join("src")).into_iter().map(|(path, text)| (path, code(&text))).collect();
    let count = |call: &str, besides: &[&str]| -> Vec<(String, usize)> {
        let outside = files.iter().filter(|(path, _)| !besides.iter().any(|besides| path.starts_with(besides)));
        let counted = outside.map(|(path, code)| (path.clone(), code.matches(call).count()));
        counted.filter(|(_, calls)| *calls > 0).collect()
    };
    let says = "an operator over a backlog of its own: give `operators::own` a view instead";
    assert_eq!(count("keep_open(", &["operators/"]), [("retain/operator.rs".to_owned(), 1)], "{says}");
    let says = "an operator that takes epochs whole: use what `operators` has";
    assert_eq!(count("Epochs::new(", &["operators/", "retain/", "score/judge.rs"]), [], "{says}");
}

/// One word, one meaning: what one floor calls by a name, no other calls by it.
#[test]
fn no_two_public_types_share_a_name() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, text) in sources(&root().join("src")) {
        let kinds = ["pub struct ", "pub enum ", "pub type ", "pub trait "];
        for named in text.lines().filter_map(|line| kinds.iter().find_map(|kind| line.strip_prefix(kind))) {
            let name: String = named.chars().take_while(|c| c.is_alphanumeric()).collect();
            places.entry(name).or_default().push(format!("src/{path}"));
        }
    }
    assert!(places.len() > 200, "{} types were found; has the way in which they are written changed?", places.len());
    for (name, places) in places {
        assert!(
            places.len() == 1,
            "{name} is defined in {}: give each a name that tells them apart",
            places.join(" and ")
        );
    }
}
