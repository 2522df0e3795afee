//! Reads Rust sources closely enough to know which paths they name and where.
//!
//! Comments and literals are left out, `use` trees are spelled out, and `self`, `super` and inline
//! modules are resolved, so that a path reads the same however it was written. Paths inside macro
//! calls are seen like any others. It is no parser: names that are brought in by a glob or a
//! re-export are not followed, which is why the walls ask for modules to be named in full.

/// One path that a file names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mention {
    /// Its segments; those of the crate itself begin with `crate`.
    pub(super) path: Vec<String>,
    /// Where it begins, from 1.
    pub(super) line: usize,
    /// It stands in a `use` declaration.
    pub(super) imported: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Token<'a> {
    text: &'a str,
    line: usize,
}

impl Token<'_> {
    fn is_name(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

/// The paths that a file names; `module` is the file's own module path within its crate.
pub(super) fn mentions(source: &str, module: &[String]) -> Vec<Mention> {
    let mut reader =
        Reader { tokens: tokens(source), at: 0, module: module.to_vec(), found: Vec::new() };
    reader.read();
    reader.found
}

struct Reader<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
    module: Vec<String>,
    found: Vec<Mention>,
}

impl<'a> Reader<'a> {
    fn text(&self, ahead: usize) -> &'a str {
        self.tokens.get(self.at + ahead).map_or("", |token| token.text)
    }

    fn read(&mut self) {
        let mut depth = 0_usize;
        // The brace depth at which each inline module that we are in was opened.
        let mut inline = Vec::new();
        while let Some(&token) = self.tokens.get(self.at) {
            match token.text {
                "mod" if self.text(2) == "{" => {
                    self.module.push(self.text(1).to_owned());
                    inline.push(depth);
                    depth += 1;
                    self.at += 3;
                }
                "use" if self.text(1) != "<" => {
                    self.at += 1;
                    self.use_tree(Vec::new());
                }
                "{" => {
                    depth += 1;
                    self.at += 1;
                }
                "}" => {
                    depth = depth.saturating_sub(1);
                    if inline.last() == Some(&depth) {
                        inline.pop();
                        self.module.pop();
                    }
                    self.at += 1;
                }
                _ if token.is_name() => self.path(),
                _ => self.at += 1,
            }
        }
    }

    /// A path in code: names joined by `::`.
    fn path(&mut self) {
        let line = self.tokens[self.at].line;
        let mut path = vec![self.text(0).to_owned()];
        self.at += 1;
        while self.text(0) == "::" && self.tokens.get(self.at + 1).is_some_and(Token::is_name) {
            path.push(self.text(1).to_owned());
            self.at += 2;
        }
        self.record(path, line, false);
    }

    /// A tree of a `use` declaration, under the segments before it.
    fn use_tree(&mut self, before: Vec<String>) {
        let mut path = before;
        let line = self.tokens.get(self.at).map_or(0, |token| token.line);
        loop {
            match self.text(0) {
                "{" => {
                    self.at += 1;
                    while !matches!(self.text(0), "}" | "") {
                        self.use_tree(path.clone());
                        if self.text(0) == "," {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    return;
                }
                "::" => self.at += 1,
                "as" => self.at += 2,
                "," | "}" | ";" | "" => break,
                segment => {
                    path.push(segment.to_owned());
                    self.at += 1;
                }
            }
        }
        self.record(path, line, true);
    }

    fn record(&mut self, path: Vec<String>, line: usize, imported: bool) {
        let path = self.resolve(path);
        self.found.push(Mention { path, line, imported });
    }

    fn resolve(&self, path: Vec<String>) -> Vec<String> {
        if !matches!(path[0].as_str(), "self" | "super") {
            return path;
        }
        let mut base = self.module.clone();
        let mut rest = path.as_slice();
        while let Some((first, others)) = rest.split_first() {
            match first.as_str() {
                "self" => {}
                "super" => {
                    base.pop();
                }
                _ => break,
            }
            rest = others;
        }
        std::iter::once("crate".to_owned()).chain(base).chain(rest.iter().cloned()).collect()
    }
}

/// The tokens of a source, without comments, literals and lifetimes.
fn tokens(source: &str) -> Vec<Token<'_>> {
    let bytes = source.as_bytes();
    let (mut at, mut line) = (0, 1);
    let mut tokens = Vec::new();
    while at < bytes.len() {
        let rest = &source[at..];
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = raw_string(rest) {
            length
        } else if rest.starts_with('"') || rest.starts_with("b\"") || rest.starts_with("c\"") {
            quoted(rest, '"')
        } else if rest.starts_with('\'') || rest.starts_with("b'") {
            char_or_lifetime(rest)
        } else {
            let length =
                word(rest).unwrap_or_else(|| rest.chars().next().map_or(1, char::len_utf8));
            let length = if rest.starts_with("::") { 2 } else { length };
            let text = &rest[..length];
            if !text.trim().is_empty() {
                tokens.push(Token { text, line });
            }
            length
        };
        line += rest[..length].matches('\n').count();
        at += length;
    }
    tokens
}

/// The length of a name or number.
fn word(rest: &str) -> Option<usize> {
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    (end > 0).then_some(end)
}

/// The length of a block comment; they nest.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        let here = &rest.as_bytes()[at..];
        if here.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// The length of a raw string, if one begins here.
fn raw_string(rest: &str) -> Option<usize> {
    let prefix = ["br", "cr", "r"].into_iter().find(|prefix| rest.starts_with(prefix))?;
    let hashes = rest[prefix.len()..].bytes().take_while(|&byte| byte == b'#').count();
    let body = prefix.len() + hashes;
    if !rest[body..].starts_with('"') {
        return None;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    Some(rest[body + 1..].find(&end).map_or(rest.len(), |found| body + 1 + found + end.len()))
}

/// The length of a literal between quotes, its prefix included.
fn quoted(rest: &str, quote: char) -> usize {
    let open = rest.find(quote).unwrap_or(0) + 1;
    let mut escaped = false;
    for (at, c) in rest[open..].char_indices() {
        if c == quote && !escaped {
            return open + at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    rest.len()
}

/// The length of a character literal or, where the quote is not closed, of a lifetime.
fn char_or_lifetime(rest: &str) -> usize {
    let body = &rest[rest.find('\'').unwrap_or(0) + 1..];
    let mut chars = body.chars();
    if body.starts_with('\\') || (chars.next().is_some() && chars.next() == Some('\'')) {
        return quoted(rest, '\'');
    }
    1 + word(body).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(source: &str, module: &str) -> Vec<String> {
        let module: Vec<String> = module.split("::").map(str::to_owned).collect();
        mentions(source, &module)
            .into_iter()
            .filter(|mention| mention.path.len() > 1)
            .map(|mention| format!("{}@{}", mention.path.join("::"), mention.line))
            .collect()
    }

    #[test]
    fn use_trees_are_spelled_out() {
        let source = "use crate::{store::{self, log as l},\n net};\npub use redb::*;";
        assert_eq!(
            paths(source, "node"),
            ["crate::store::self@1", "crate::store::log@1", "crate::net@2", "redb::*@3"]
        );
    }

    #[test]
    fn super_is_resolved_inside_inline_modules_too() {
        let source =
            "fn f() { super::net::g() }\nmod tests { use super::super::net; }\nuse super::h;";
        assert_eq!(
            paths(source, "store::log"),
            ["crate::store::net::g@1", "crate::store::net@2", "crate::store::h@3"]
        );
    }

    #[test]
    fn comments_literals_and_lifetimes_name_nothing() {
        let source = r##"
// redb::A
/* redb::B /* redb::C */ redb::D */
fn f<'a>(x: &'a str) { g("redb::E", r#"redb::"F"#, b'\'', '"', "\"redb::G"); iroh::H }
"##;
        assert_eq!(paths(source, "node"), ["iroh::H@4"]);
    }
}
