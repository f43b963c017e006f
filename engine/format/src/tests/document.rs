//! Reads the tables of `docs/FORMATS.md`, so that tests can hold them against the code.

use std::path::PathBuf;

/// A table and the heading above it.
#[derive(Debug)]
pub(crate) struct Table {
    title: String,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// Where a struct's fields lie.
#[derive(Debug)]
pub(crate) struct Layout {
    /// The heading of its table.
    pub(crate) title: &'static str,
    pub(crate) size: usize,
    /// Name, offset and size of each.
    pub(crate) fields: Vec<(&'static str, usize, usize)>,
}

/// The layout of a struct, all of whose fields are to be named.
macro_rules! layout {
    ($title:literal, $type:ty { $($field:ident),* $(,)? }) => {
        $crate::tests::document::Layout {
            title: $title,
            size: size_of::<$type>(),
            fields: vec![$((
                stringify!($field),
                std::mem::offset_of!($type, $field),
                $crate::tests::document::field_size(|from: &$type| &from.$field),
            )),*],
        }
    };
}
pub(crate) use layout;

/// The size of what the function borrows.
pub(crate) fn field_size<T, F>(_: fn(&T) -> &F) -> usize {
    size_of::<F>()
}

fn cells(line: &str) -> Vec<String> {
    let cell = |cell: &str| cell.trim().trim_matches('`').to_owned();
    let inner = line.trim().trim_matches('|');
    inner.split('|').map(cell).collect()
}

/// The tables of a section of the document.
fn tables(section: &str) -> Vec<Table> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/FORMATS.md");
    let text = std::fs::read_to_string(&path).expect("the document is there");
    let (mut in_section, mut title, mut found) = (false, String::new(), Vec::new());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(heading) = line.strip_prefix("## ") {
            in_section = heading == section;
        } else if let Some(heading) = line.strip_prefix("### ") {
            title = heading.to_owned();
        } else if line.starts_with('|') && in_section {
            let rule = lines.next().expect("a rule follows the columns' names");
            assert!(rule.starts_with("|--"), "{title}: {rule}");
            let mut rows = Vec::new();
            while let Some(row) = lines.next_if(|line| line.starts_with('|')) {
                rows.push(cells(row));
            }
            found.push(Table {
                title: title.clone(),
                columns: cells(line),
                rows,
            });
        }
    }
    assert!(!found.is_empty(), "{section} has no tables");
    found
}

/// Holds all field tables of a section against these layouts: none may be missing or too many.
pub(crate) fn assert_layouts(section: &str, layouts: &[Layout]) {
    let mut tables = tables(section);
    let fields = ["offset", "bytes", "field", "content"];
    tables.retain(|table| table.columns == fields);
    for layout in layouts {
        let table = tables
            .iter()
            .find(|table| table.title == layout.title)
            .unwrap_or_else(|| panic!("{section} has no table of {}", layout.title));
        let said: Vec<_> = table.rows.iter().map(|row| row[..3].to_vec()).collect();
        let true_rows: Vec<Vec<String>> = layout
            .fields
            .iter()
            .map(|(name, offset, bytes)| {
                vec![offset.to_string(), bytes.to_string(), (*name).to_owned()]
            })
            .collect();
        assert_eq!(said, true_rows, "{}", layout.title);
        let mut end = 0;
        for (name, offset, bytes) in &layout.fields {
            assert_eq!(*offset, end, "{}: {name}", layout.title);
            end += bytes;
        }
        assert_eq!(end, layout.size, "{} has more fields", layout.title);
    }
    assert_eq!(tables.len(), layouts.len(), "{section} has other tables");
}

/// Holds the first columns of one table against these rows.
pub(crate) fn assert_rows(section: &str, title: &str, rows: &[Vec<String>]) {
    let tables = tables(section);
    let table = tables
        .iter()
        .find(|table| table.title == title)
        .unwrap_or_else(|| panic!("{section} has no table of {title}"));
    let width = rows.first().map_or(0, Vec::len);
    let said: Vec<_> = table.rows.iter().map(|row| row[..width].to_vec()).collect();
    assert_eq!(said, rows, "{title}");
}

/// Holds a table of numbers and names against the code's.
pub(crate) fn assert_numbers(section: &str, title: &str, numbers: &[(u64, &str)]) {
    let rows: Vec<Vec<String>> = numbers
        .iter()
        .map(|(number, name)| vec![number.to_string(), (*name).to_owned()])
        .collect();
    assert_rows(section, title, &rows);
}
