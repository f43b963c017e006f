//! The house's rules, one a test.
#![forbid(unsafe_code)]

use tidy::{manifest, modules, prose, rust, tree};

/// The longest Rust file, in lines.
const FILE_LINES_MAX: usize = 600;
/// The longest function, in lines.
const FUNCTION_LINES_MAX: usize = 70;
/// The largest tracked file, in bytes: larger ones are made by a program and belong elsewhere.
const FILE_BYTES_MAX: usize = 512 << 10;

/// Fails with all that was found, one a line.
fn assert_none(rule: &str, found: &[String]) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

/// Applies a rule to the tokens of every Rust file that the filter lets through.
fn find_lines(
    filter: impl Fn(&str) -> bool,
    rule: impl Fn(&proc_macro2::TokenStream) -> Vec<usize>,
) -> Vec<String> {
    tree::rust_files()
        .iter()
        .filter(|file| filter(&file.path))
        .flat_map(|file| {
            let lines = rule(&rust::tokens(file.text().expect("Rust files are UTF-8")));
            lines
                .into_iter()
                .map(|line| format!("{}:{line}", file.path))
                .collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn rust_files_are_short() {
    let found: Vec<String> = tree::rust_files()
        .iter()
        .map(|file| {
            (
                file,
                file.text().expect("Rust files are UTF-8").lines().count(),
            )
        })
        .filter(|(_, lines)| *lines > FILE_LINES_MAX)
        .map(|(file, lines)| format!("{}: {lines} lines", file.path))
        .collect();
    assert_none("files longer than 600 lines", &found);
}

#[test]
fn functions_are_short() {
    let mut found = Vec::new();
    for file in tree::rust_files() {
        for function in rust::functions(&rust::tokens(file.text().expect("Rust files are UTF-8"))) {
            if function.lines > FUNCTION_LINES_MAX {
                let rust::Function { name, line, lines } = function;
                found.push(format!("{}:{line}: {name} has {lines} lines", file.path));
            }
        }
    }
    assert_none("functions longer than 70 lines", &found);
}

#[test]
fn unsafe_code_is_in_the_ring_only() {
    let outside_ring = |path: &str| !path.starts_with("engine/ring/");
    let found = find_lines(outside_ring, |tokens| {
        rust::lines_with_word(tokens, &["unsafe"])
    });
    assert_none("unsafe code outside engine/ring", &found);
}

#[test]
fn nothing_is_unfinished() {
    let mut found = find_lines(
        |_| true,
        |tokens| rust::lines_with_macro(tokens, &["todo", "unimplemented"]),
    );
    found.extend(find_lines(|_| true, rust::lines_with_ignored_test));
    let marks = [concat!("FIX", "ME"), concat!("XX", "X")];
    for file in tree::files().iter().filter(|file| !file.ends_with(".lock")) {
        let lines = file.text().unwrap_or("").lines().enumerate();
        found.extend(
            lines
                .filter(|(_, line)| marks.iter().any(|mark| line.contains(mark)))
                .map(|(index, _)| format!("{}:{}", file.path, index + 1)),
        );
    }
    assert_none("unfinished, or switched off", &found);
}

#[test]
fn crates_depend_downwards() {
    let mut found = Vec::new();
    for (path, manifest) in manifests() {
        if manifest::package(&manifest).is_some() {
            match manifest::against_order(&manifest) {
                Ok(wrong) => found.extend(wrong),
                Err(reason) => found.push(format!("{path}: {reason}")),
            }
        }
    }
    assert_none("dependencies against the order of crates", &found);
}

#[test]
fn every_crate_takes_the_workspace_lints() {
    let found: Vec<String> = manifests()
        .into_iter()
        .filter(|(_, manifest)| {
            manifest::package(manifest).is_some_and(|name| name != "fuzz-targets")
        })
        .filter(|(_, manifest)| {
            let lints = manifest
                .get("lints")
                .and_then(|lints| lints.get("workspace"));
            lints.and_then(toml::Value::as_bool) != Some(true)
        })
        .map(|(path, _)| path)
        .collect();
    assert_none("manifests without the workspace's lints", &found);
}

#[test]
fn every_crate_forbids_unsafe_code() {
    let is_root = |path: &str| {
        path.ends_with("src/lib.rs") || path.ends_with("src/main.rs") || path.contains("/src/bin/")
    };
    let found: Vec<String> = tree::rust_files()
        .iter()
        .filter(|file| is_root(&file.path) && !file.path.starts_with("engine/ring/"))
        .filter(|file| {
            !file
                .text()
                .unwrap_or("")
                .contains("#![forbid(unsafe_code)]")
        })
        .map(|file| file.path.clone())
        .collect();
    assert_none("crates that do not forbid unsafe code", &found);
}

#[test]
fn modules_form_no_cycle() {
    let files = tree::rust_files();
    let mut found = Vec::new();
    for (path, _) in manifests() {
        let source = path.replace("Cargo.toml", "src/");
        let sources: Vec<(modules::Place, String)> = files
            .iter()
            .filter(|file| !file.is_test() || path.starts_with("tests/"))
            .filter_map(|file| {
                let place = modules::place(file.path.strip_prefix(&source)?);
                let in_tests = place.last().is_some_and(|name| name == "tests");
                (!in_tests).then(|| (place, file.text().unwrap_or("").to_owned()))
            })
            .collect();
        if let Some(cycle) = modules::cycle(&modules::needs(&sources)) {
            let names: Vec<String> = cycle.iter().map(|place| place.join("::")).collect();
            found.push(format!("{source}: {}", names.join(" -> ")));
        }
    }
    assert_none("modules that need each other", &found);
}

#[test]
fn documents_name_files_that_exist() {
    let root = tree::root();
    let mut found = Vec::new();
    for file in tree::files().iter().filter(|file| file.ends_with(".md")) {
        let folder = root
            .join(&file.path)
            .parent()
            .map(std::path::Path::to_path_buf);
        for name in prose::named_files(file.text().unwrap_or("")) {
            let beside = folder
                .as_ref()
                .is_some_and(|folder| folder.join(&name).exists());
            if !beside && !root.join(&name).exists() {
                found.push(format!("{}: {name}", file.path));
            }
        }
    }
    assert_none("documents name files that do not exist", &found);
}

#[test]
fn text_has_no_trailing_blanks() {
    let mut found = Vec::new();
    for file in tree::files() {
        let Some(text) = file.text() else { continue };
        let lines = prose::lines_with_trailing_blanks(text);
        found.extend(lines.iter().map(|line| format!("{}:{line}", file.path)));
        if !text.is_empty() && !text.ends_with('\n') {
            found.push(format!("{}: the last line does not end", file.path));
        }
    }
    assert_none("trailing blanks", &found);
}

#[test]
fn nothing_made_by_a_program_is_tracked() {
    const ENDINGS: &[&str] = &[
        ".orig", ".rej", ".swp", ".o", ".a", ".so", ".profraw", ".log", ".img", "~",
    ];
    let found: Vec<String> = tree::files()
        .iter()
        .filter(|file| {
            file.path.split('/').any(|part| part == "target")
                || ENDINGS.iter().any(|ending| file.ends_with(ending))
                || file.bytes.len() > FILE_BYTES_MAX
        })
        .map(|file| file.path.clone())
        .collect();
    assert_none("files that a program made", &found);
}

#[test]
fn every_fuzz_target_is_built() {
    const TARGETS: &str = "tests/fuzz/src/";
    let manifests = manifests();
    let built = manifests.iter().find_map(|(path, manifest)| {
        (path == "tests/fuzz/targets/Cargo.toml").then(|| manifest.get("bin")?.as_array())?
    });
    let built: Vec<&str> = built
        .expect("the fuzz targets have a manifest")
        .iter()
        .filter_map(|program| program.get("path")?.as_str())
        .collect();
    let found: Vec<String> = tree::rust_files()
        .iter()
        .filter(|file| file.path.starts_with(TARGETS) && !file.path.ends_with("/lib.rs"))
        .filter(|file| !built.iter().any(|path| file.path.ends_with(path)))
        .map(|file| file.path.clone())
        .collect();
    assert_none("fuzz targets without a program", &found);
}

/// Every tracked manifest with its path.
fn manifests() -> Vec<(String, toml::Table)> {
    tree::files()
        .iter()
        .filter(|file| file.path == "Cargo.toml" || file.ends_with("/Cargo.toml"))
        .map(|file| {
            let text = file.text().expect("manifests are UTF-8");
            (file.path.clone(), text.parse().expect("manifests are TOML"))
        })
        .collect()
}
