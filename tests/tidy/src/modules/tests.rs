use super::{cycle, needs, place};

fn sources(files: &[(&str, &str)]) -> Vec<(super::Place, String)> {
    files
        .iter()
        .map(|(path, text)| (place(path), (*text).to_owned()))
        .collect()
}

#[test]
fn a_chain_is_no_cycle() {
    let files = sources(&[
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", "use crate::b::{self, Thing, deeper::Other};"),
        ("b.rs", "mod deeper; use deeper::Other;"),
        ("b/deeper.rs", "use super::Thing;"),
    ]);
    assert_eq!(cycle(&needs(&files)), None);
}

#[test]
fn two_that_need_each_other_are_found() {
    let files = sources(&[
        ("lib.rs", ""),
        ("a.rs", "fn f() { crate::b::g() }"),
        ("b/deeper.rs", "use crate::{a::f};"),
    ]);
    let found = cycle(&needs(&files)).expect("a needs b, and b's child needs a");
    assert_eq!(found.len(), 2);
}

#[test]
fn siblings_below_the_root_are_compared_too() {
    let files = sources(&[
        ("a.rs", ""),
        ("a/one.rs", "use super::two::Two;"),
        ("a/two.rs", "use super::one::One;"),
    ]);
    assert_eq!(cycle(&needs(&files)).expect("one and two").len(), 2);
}

#[test]
fn what_only_tests_name_does_not_count() {
    let files = sources(&[
        ("a.rs", "use crate::b::B;"),
        ("b.rs", "mod tests { use crate::a::A; }"),
    ]);
    assert_eq!(cycle(&needs(&files)), None);
}
