use super::{lines_with_trailing_blanks, named_files};

#[test]
fn trailing_blanks_are_found() {
    assert_eq!(lines_with_trailing_blanks("a\nb \nc\t\nd\r\n"), [2, 3, 4]);
}

#[test]
fn files_are_named_in_links_and_between_backquotes() {
    let text = "See `engine/src/volume.rs`, [how](docs/OPERATING.md#now) and [out](https://a.b/c.md).\n\
                `/etc/twinblk/twinblk.toml`, `STATE/volumes/NAME/data`, `cargo test`, `tests/e2e`.\n\
                ```\n`inside.rs`\n```\n";
    assert_eq!(
        named_files(text),
        ["engine/src/volume.rs", "docs/OPERATING.md", "tests/e2e"]
    );
}
