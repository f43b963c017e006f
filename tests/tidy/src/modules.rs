//! The order among the modules of a crate.
//!
//! A module stands for itself and all that lies below it, and it *needs* another where its text
//! names it by `crate::` or `super::`. Among siblings, at every level, needing must form no cycle: then a
//! reader can take a crate from the bottom up. Parents and children may name each other.

use crate::rust::tokens;
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};

#[cfg(test)]
mod tests;

/// A module's place in its crate: empty for the root.
pub type Place = Vec<String>;

/// Which sibling needs which.
pub type Needs = BTreeMap<Place, BTreeSet<Place>>;

/// The place of a file below a crate's `src`.
pub fn place(path_in_src: &str) -> Place {
    let stem = path_in_src.trim_end_matches(".rs");
    let mut place: Place = stem.split('/').map(str::to_owned).collect();
    if matches!(
        place.last().map(String::as_str),
        Some("mod" | "lib" | "main")
    ) {
        place.pop();
    }
    place
}

/// Who needs whom among these modules.
pub fn needs(sources: &[(Place, String)]) -> Needs {
    let known: BTreeSet<&[String]> = sources
        .iter()
        .flat_map(|(place, _)| (0..=place.len()).map(move |length| &place[..length]))
        .collect();
    let mut needs = Needs::new();
    for (from, text) in sources {
        let mut named = Vec::new();
        collect_paths(&tokens(text), from, &mut named);
        for mut to in named {
            while !to.is_empty() && !known.contains(to.as_slice()) {
                to.pop();
            }
            if let Some((needing, needed)) = siblings(from, &to) {
                needs.entry(needing).or_default().insert(needed);
            }
        }
    }
    needs
}

/// A cycle, if there is one: each needs the next, the last the first.
pub fn cycle(needs: &Needs) -> Option<Vec<Place>> {
    let mut finished = BTreeSet::new();
    needs
        .keys()
        .find_map(|start| walk(needs, start, &mut Vec::new(), &mut finished))
}

fn walk(
    needs: &Needs,
    at: &Place,
    path: &mut Vec<Place>,
    finished: &mut BTreeSet<Place>,
) -> Option<Vec<Place>> {
    if let Some(start) = path.iter().position(|place| place == at) {
        return Some(path[start..].to_vec());
    }
    if finished.contains(at) {
        return None;
    }
    path.push(at.clone());
    let found = needs
        .get(at)
        .into_iter()
        .flatten()
        .find_map(|next| walk(needs, next, path, finished));
    path.pop();
    finished.insert(at.clone());
    found
}

/// The two siblings that stand for these modules, unless one lies within the other.
fn siblings(from: &Place, to: &Place) -> Option<(Place, Place)> {
    let common = from
        .iter()
        .zip(to)
        .take_while(|(left, right)| left == right)
        .count();
    (common < from.len() && common < to.len())
        .then(|| (from[..=common].to_vec(), to[..=common].to_vec()))
}

/// Adds every path that begins with `crate` or `super`; a group in braces names several.
fn collect_paths(stream: &TokenStream, from: &Place, named: &mut Vec<Place>) {
    let level: Vec<TokenTree> = stream.clone().into_iter().collect();
    let mut index = 0;
    while index < level.len() {
        match &level[index] {
            TokenTree::Ident(word) if word == "crate" || word == "super" => {
                let base = if word == "crate" {
                    Vec::new()
                } else {
                    parent(from)
                };
                index = follow(&level, index + 1, base, named);
            }
            TokenTree::Ident(word) if word == "mod" && is_tests(level.get(index + 1)) => {
                index += 3;
            }
            TokenTree::Group(group) => {
                collect_paths(&group.stream(), from, named);
                index += 1;
            }
            _ => index += 1,
        }
    }
}

/// Follows `::a::b` or `::{…}` from `index` on and returns where it ends.
fn follow(level: &[TokenTree], mut index: usize, mut at: Place, named: &mut Vec<Place>) -> usize {
    while is_colon(level.get(index)) && is_colon(level.get(index + 1)) {
        match level.get(index + 2) {
            Some(TokenTree::Ident(word)) if word == "super" => at = parent(&at),
            Some(TokenTree::Ident(word)) => at.push(word.to_string()),
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                follow_group(&group.stream(), &at, named);
                return index + 3;
            }
            _ => break,
        }
        index += 3;
    }
    named.push(at);
    index
}

/// Follows each of a group's paths: the words after the opening brace and after every comma.
fn follow_group(stream: &TokenStream, base: &Place, named: &mut Vec<Place>) {
    let level: Vec<TokenTree> = stream.clone().into_iter().collect();
    let is_comma =
        |token: &TokenTree| matches!(token, TokenTree::Punct(mark) if mark.as_char() == ',');
    for path in level.split(is_comma) {
        if let Some(TokenTree::Ident(word)) = path.first() {
            let mut at = base.clone();
            if word != "self" {
                at.push(word.to_string());
            }
            follow(path, 1, at, named);
        }
    }
}

fn parent(place: &Place) -> Place {
    place[..place.len().saturating_sub(1)].to_vec()
}

fn is_colon(token: Option<&TokenTree>) -> bool {
    matches!(token, Some(TokenTree::Punct(mark)) if mark.as_char() == ':')
}

fn is_tests(token: Option<&TokenTree>) -> bool {
    matches!(token, Some(TokenTree::Ident(word)) if word == "tests")
}
