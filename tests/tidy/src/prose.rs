//! What any text file tells, and which files a document names.

#[cfg(test)]
mod tests;

/// The lines that end in blanks or carriage returns, counted from one.
pub fn lines_with_trailing_blanks(text: &str) -> Vec<usize> {
    text.split('\n')
        .enumerate()
        .filter(|(_, line)| line.ends_with([' ', '\t', '\r']))
        .map(|(index, _)| index + 1)
        .collect()
}

/// Endings by which a word in a document is taken for the name of one of the project's files.
const ENDINGS: &[&str] = &[".rs", ".md", ".toml", ".sh", ".service", ".yml"];

/// Folders of the project; a word that begins with one is taken for a file's name as well.
const FOLDERS: &[&str] = &[
    "engine/",
    "nbd-server/",
    "twinblk/",
    "bench/",
    "tests/",
    "scripts/",
    "docs/",
    ".ci/",
    "systemd/",
];

/// The files that a document names: in links, and between backquotes outside code blocks. Names on
/// the user's machine (absolute, or with a part in capitals to be filled in) are not ours.
pub fn named_files(markdown: &str) -> Vec<String> {
    let mut named = Vec::new();
    let mut in_code = false;
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
            continue;
        }
        if in_code {
            continue;
        }
        named.extend(
            line.split('`')
                .skip(1)
                .step_by(2)
                .filter(|word| is_ours(word)),
        );
        named.extend(link_targets(line));
    }
    named.into_iter().map(str::to_owned).collect()
}

fn is_ours(word: &str) -> bool {
    let plain =
        !word.contains([' ', '*', '<', '{', '…', ':']) && !word.starts_with(['/', '~', '-']);
    let filled_in = word
        .split('/')
        .rev()
        .skip(1)
        .all(|part| part != part.to_uppercase());
    let in_folder = FOLDERS
        .iter()
        .any(|folder| word.starts_with(folder) && word.len() > folder.len());
    plain
        && filled_in
        && (in_folder
            || ENDINGS
                .iter()
                .any(|ending| word.ends_with(ending) && word.len() > ending.len()))
}

fn link_targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| {
        let target = rest.split([')', '#']).next()?;
        (!target.is_empty() && !target.contains("://")).then_some(target)
    })
}
