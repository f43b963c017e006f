//! What a Rust file's tokens tell. Tokens and not lines, so that comments, strings and macros do not
//! mislead.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use std::str::FromStr;

#[cfg(test)]
mod tests;

/// A function with a body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// The line of its `fn`.
    pub line: usize,
    /// Lines from its `fn` to its last brace.
    pub lines: usize,
}

/// A Rust file's tokens.
///
/// # Panics
/// Where the text is not Rust; then the compiler has said so before.
pub fn tokens(text: &str) -> TokenStream {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    TokenStream::from_str(text).expect("a tracked Rust file is made of Rust tokens")
}

/// Every function with a body, also those within other functions and macros.
pub fn functions(stream: &TokenStream) -> Vec<Function> {
    let mut found = Vec::new();
    for_each_level(stream, &mut |level| {
        for (index, pair) in level.windows(2).enumerate() {
            let [TokenTree::Ident(keyword), TokenTree::Ident(name)] = pair else {
                continue;
            };
            if keyword != "fn" {
                continue;
            }
            if let Some(body) = body_after(&level[index + 2..]) {
                let line = keyword.span().start().line;
                let lines = body.span_close().end().line - line + 1;
                found.push(Function {
                    name: name.to_string(),
                    line,
                    lines,
                });
            }
        }
    });
    found
}

/// The lines on which one of these words stands as a token of its own; a keyword inside an attribute
/// such as `forbid(unsafe_code)` is another word.
pub fn lines_with_word(stream: &TokenStream, words: &[&str]) -> Vec<usize> {
    let mut found = Vec::new();
    for_each_level(stream, &mut |level| {
        for token in level {
            if let TokenTree::Ident(word) = token
                && words.iter().any(|wanted| word == wanted)
            {
                found.push(word.span().start().line);
            }
        }
    });
    found
}

/// The lines on which one of these macros is called.
pub fn lines_with_macro(stream: &TokenStream, names: &[&str]) -> Vec<usize> {
    let mut found = Vec::new();
    for_each_level(stream, &mut |level| {
        for pair in level.windows(2) {
            if let [TokenTree::Ident(name), TokenTree::Punct(mark)] = pair
                && mark.as_char() == '!'
                && names.iter().any(|wanted| name == wanted)
            {
                found.push(name.span().start().line);
            }
        }
    });
    found
}

/// The lines on which a test is switched off.
pub fn lines_with_ignored_test(stream: &TokenStream) -> Vec<usize> {
    let mut found = Vec::new();
    for_each_level(stream, &mut |level| {
        for pair in level.windows(2) {
            if let [TokenTree::Punct(mark), TokenTree::Group(attribute)] = pair
                && mark.as_char() == '#'
                && first_word(attribute).as_deref() == Some("ignore")
            {
                found.push(mark.span().start().line);
            }
        }
    });
    found
}

/// Calls back with the tokens of every nesting level.
pub(crate) fn for_each_level(stream: &TokenStream, visit: &mut impl FnMut(&[TokenTree])) {
    let level: Vec<TokenTree> = stream.clone().into_iter().collect();
    visit(&level);
    for token in &level {
        if let TokenTree::Group(group) = token {
            for_each_level(&group.stream(), visit);
        }
    }
}

/// The braces that follow a function's name, unless a semicolon comes first.
fn body_after(level: &[TokenTree]) -> Option<&Group> {
    for token in level {
        match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => return Some(group),
            TokenTree::Punct(mark) if mark.as_char() == ';' => return None,
            _ => {}
        }
    }
    None
}

fn first_word(group: &Group) -> Option<String> {
    match group.stream().into_iter().next()? {
        TokenTree::Ident(word) => Some(word.to_string()),
        _ => None,
    }
}
