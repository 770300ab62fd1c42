//! `deltawatch dataflow new NAME`: a file from the tutorial, and its entry in the list.

use std::fs;
use std::io::Write;
use std::path::Path;

use serde_json::json;

use super::super::error::{Failure, usage};

/// The tutorial, as it was when this binary was built.
const TEMPLATE: &str = include_str!("../../../dataflows/hello.rs");
/// Longer names make no good file names.
const NAME_CHARS_MAX: usize = 60;
/// Words that Rust keeps for itself, and the list's own name.
const KEPT: [&str; 45] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn", "else",
    "enum", "extern", "false", "final", "fn", "for", "if", "impl", "in", "let", "loop", "macro", "match", "mod",
    "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static", "struct", "super", "trait", "true",
    "try", "type", "unsafe", "use", "while",
];

/// Writes the file and adds it to the list. Refuses bad names and whatever is already there.
pub fn create(dir: &Path, name: &str, as_json: bool) -> Result<String, Failure> {
    check(name)?;
    let (list_path, path) = (dir.join("mod.rs"), dir.join(format!("{name}.rs")));
    let list = fs::read_to_string(&list_path).map_err(|error| {
        let reason =
            format!("cannot read {}: {error}; run this in a checkout, or name the folder", list_path.display());
        usage("--dir", dir.display(), reason)
    })?;
    let listed = added(&list, name).ok_or_else(|| {
        usage("--dir", list_path.display(), "has no sorted list of `mod` lines and `Arc::new(..)` lines; restore it")
    })?;
    let file = fs::OpenOptions::new().write(true).create_new(true).open(&path);
    let failed = |path: &Path, error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            usage("dataflow new", name, format!("{} is already there; choose another name", path.display()))
        }
        _ => Failure::Failed(format!("cannot write {}: {error}", path.display())),
    };
    let mut file = file.map_err(|error| failed(&path, error))?;
    file.write_all(template(name).as_bytes()).map_err(|error| failed(&path, error))?;
    fs::write(&list_path, listed).map_err(|error| failed(&list_path, error))?;
    if as_json {
        return Ok(format!("{}\n", json!({"name": name, "file": path, "list": list_path})));
    }
    Ok(format!(
        "wrote {} and added it to {}\nnext: cargo run --release -- run --dataflow {name} --events 1000\n",
        path.display(),
        list_path.display()
    ))
}

fn check(name: &str) -> Result<(), Failure> {
    let refuse = |reason: &str| Err(usage("dataflow new", name, reason));
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(legal) || name.len() > NAME_CHARS_MAX {
        return refuse("a name starts with a lower case letter and has lower case letters, digits and `_` only");
    }
    if KEPT.contains(&name) || name.ends_with("_pack") {
        return refuse("this word is taken; choose another name");
    }
    Ok(())
}

/// `my_dataflow` is `MyDataflow`.
fn type_name(name: &str) -> String {
    let capital = |part: &str| part[..1].to_ascii_uppercase() + &part[1..];
    name.split('_').filter(|part| !part.is_empty()).map(capital).collect()
}

/// The tutorial under another name.
fn template(name: &str) -> String {
    TEMPLATE
        .replace("pub struct Hello", &format!("pub struct {}", type_name(name)))
        .replace("for Hello", &format!("for {}", type_name(name)))
        .replace("\"hello\"", &format!("\"{name}\""))
        .replace("--dataflow hello", &format!("--dataflow {name}"))
        .replace("hello.amount_min", &format!("{name}.amount_min"))
        .replace("merchant_totals", name)
        .replace(
            "//! This file is the tutorial, and the template that `deltawatch dataflow new NAME` copies. Read it from top to bottom.\n",
            "//! Made from the tutorial: change the question above, then the code.\n",
        )
        .replace(" The tutorial.\"", "\"")
}

/// The list with a `mod` line and an entry more, both in their place; `None` if it does not look like one.
fn added(list: &str, name: &str) -> Option<String> {
    let entry = format!("        Arc::new({name}::{}),", type_name(name));
    let module = format!("mod {name};");
    let mut lines: Vec<&str> = list.lines().collect();
    insert(&mut lines, &module, "mod ")?;
    insert(&mut lines, &entry, "        Arc::new(")?;
    Some(lines.join("\n") + "\n")
}

/// Inserts a line among those that start alike, keeping them sorted.
fn insert<'a>(lines: &mut Vec<&'a str>, line: &'a str, start: &str) -> Option<()> {
    let alike = |other: &&str| other.starts_with(start);
    let last = lines.iter().rposition(alike)?;
    let place = lines.iter().position(|other| alike(other) && *other > line).unwrap_or(last + 1);
    lines.insert(place, line);
    Some(())
}
