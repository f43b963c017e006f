use super::{functions, lines_with_ignored_test, lines_with_macro, lines_with_word, tokens};

const SAMPLE: &str = r#"
// unsafe todo!() in a comment
trait Shape { fn area(&self) -> u32; }
fn outer() -> [u8; { 2 }] {
    let text = "unsafe";
    fn inner() {}
    pending!(fn in_macro() {
    });
    [0, 0]
}
type Callback = fn(u8) -> u8;
#[ignore]
#[test]
fn off() { todo!() }
unsafe fn wild() {}
"#;

#[test]
fn functions_are_found_with_their_length() {
    let mut found: Vec<(String, usize)> = functions(&tokens(SAMPLE))
        .into_iter()
        .map(|f| (f.name, f.lines))
        .collect();
    found.sort();
    let wanted = [
        ("in_macro", 2),
        ("inner", 1),
        ("off", 1),
        ("outer", 7),
        ("wild", 1),
    ];
    assert_eq!(found, wanted.map(|(name, lines)| (name.to_owned(), lines)));
}

#[test]
fn words_and_macros_are_found_outside_comments_and_strings() {
    let stream = tokens(SAMPLE);
    assert_eq!(lines_with_word(&stream, &["unsafe"]), [15]);
    assert_eq!(lines_with_macro(&stream, &["todo", "unimplemented"]), [14]);
    assert_eq!(lines_with_ignored_test(&stream), [12]);
}
