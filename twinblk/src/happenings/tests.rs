use std::collections::BTreeMap;

/// Every source that makes events.
const SOURCES: &[&str] = &[
    include_str!("../happenings.rs"),
    include_str!("../duty.rs"),
    include_str!("../hook_report.rs"),
    include_str!("../actions/nodes.rs"),
    include_str!("../watching.rs"),
    include_str!("../../../engine/core/src/notice.rs"),
];
const TABLE: &str = include_str!("../../../docs/EVENTS.md");

/// The names of events in a source with their numbers: a literal in lower case, and the number behind it.
fn in_code(source: &str) -> Vec<(String, u16)> {
    let mut found = Vec::new();
    let mut rest = source;
    while let Some((_, behind)) = rest.split_once('"') {
        let Some((literal, behind)) = behind.split_once('"') else {
            break;
        };
        rest = behind;
        // As a pair, `"name", 7`, or as fields, `name: "name", number: 7`.
        let next = behind.trim_start_matches([',', ' ', '\n']);
        let next = next.strip_prefix("number: ").unwrap_or(next);
        let digits: String = next.chars().take_while(char::is_ascii_digit).collect();
        let is_name = literal
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        if let (true, true, Ok(number)) = (is_name, behind.starts_with(','), digits.parse()) {
            found.push((literal.to_owned(), number));
        }
    }
    found
}

#[test]
fn the_documented_table_and_the_code_agree() {
    let mut code = BTreeMap::new();
    for (name, number) in SOURCES.iter().flat_map(|source| in_code(source)) {
        let earlier = code.insert(number, name.clone());
        assert_eq!(earlier, None, "{number} is {name} as well");
    }
    assert!(
        code.len() >= 30,
        "events are missed in the sources: {code:?}"
    );
    let mut table = BTreeMap::new();
    for line in TABLE.lines() {
        let mut cells = line.split('|').map(str::trim).skip(1);
        if let (Some(Ok(number)), Some(name)) = (cells.next().map(str::parse::<u16>), cells.next())
        {
            assert_eq!(table.insert(number, name.to_owned()), None, "{number}");
        }
    }
    assert_eq!(
        code, table,
        "what the code has, and what docs/EVENTS.md has"
    );
}

#[test]
fn names_are_stable_words_of_their_own() {
    let mut names: Vec<String> = SOURCES
        .iter()
        .flat_map(|source| in_code(source))
        .map(|(name, _)| name)
        .collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "a name is used twice");
}
