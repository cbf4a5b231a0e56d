//! EXT-X-DEFINE: the `{$name}` substitution of RFC 8216bis §4.3, so that playlists written by CDNs with query tokens play.

use std::{borrow::Cow, collections::BTreeMap};

use thiserror::Error;
use url::Url;

/// Longest URI or attribute after substitution, in bytes: eight times what servers commonly accept. A guess that only bounds memory.
const LONGEST: usize = 64 * 1024;

/// The variables one playlist can use. A media playlist starts with its own empty set and imports by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Variables {
    values: BTreeMap<String, String>,
}

/// Why a playlist's variables could not be used.
#[derive(Debug, Error, PartialEq)]
pub(super) enum VariableError {
    #[error("the playlist uses the variable {0:?} but does not define it")]
    Undefined(String),
    #[error("a line of the playlist is longer than 64 KiB after substitution")]
    TooLong,
}

impl Variables {
    /// EXT-X-DEFINE with NAME and VALUE.
    pub(super) fn define(&mut self, name: &str, value: &str) {
        self.values.insert(name.to_owned(), value.to_owned());
    }

    /// EXT-X-DEFINE with IMPORT: takes one variable from the multivariant playlist.
    pub(super) fn import(&mut self, name: &str, from: &Self) -> Result<(), VariableError> {
        let value = from.value(name)?.to_owned();
        self.values.insert(name.to_owned(), value);
        Ok(())
    }

    /// EXT-X-DEFINE with QUERYPARAM: takes the value from the playlist's own address.
    pub(super) fn query(&mut self, name: &str, address: &Url) -> Result<(), VariableError> {
        let (_, value) = address
            .query_pairs()
            .find(|(key, _)| key == name)
            .ok_or_else(|| VariableError::Undefined(name.to_owned()))?;
        self.values.insert(name.to_owned(), value.into_owned());
        Ok(())
    }

    /// `text` with every `{$name}` replaced, once: what a value contains is not substituted again.
    pub(super) fn expand<'a>(&self, text: &'a str) -> Result<Cow<'a, str>, VariableError> {
        if !text.contains("{$") {
            return Ok(Cow::Borrowed(text));
        }
        let mut expanded = String::new();
        let mut rest = text;
        while let Some((before, from)) = rest.split_once("{$") {
            expanded.push_str(before);
            let Some((name, after)) = from.split_once('}') else {
                expanded.push_str("{$");
                rest = from;
                break;
            };
            expanded.push_str(self.value(name)?);
            if expanded.len() > LONGEST {
                return Err(VariableError::TooLong);
            }
            rest = after;
        }
        expanded.push_str(rest);
        Ok(Cow::Owned(expanded))
    }

    fn value(&self, name: &str) -> Result<&str, VariableError> {
        self.values.get(name).map(String::as_str).ok_or_else(|| VariableError::Undefined(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> Variables {
        let mut variables = Variables::default();
        variables.define("host", "cdn.example");
        variables.define("token", "a{$host}");
        variables
    }

    #[test]
    fn replaces_every_variable_once() {
        let expanded = variables().expand("https://{$host}/x?t={$token}&h={$host}");
        assert_eq!(expanded.as_deref(), Ok("https://cdn.example/x?t=a{$host}&h=cdn.example"));
    }

    #[test]
    fn leaves_plain_and_unclosed_text_alone() {
        assert_eq!(variables().expand("a{b}$c").as_deref(), Ok("a{b}$c"));
        assert_eq!(variables().expand("a{$host").as_deref(), Ok("a{$host"));
    }

    #[test]
    fn names_the_variable_that_is_missing() {
        let missing = VariableError::Undefined("nope".into());
        assert_eq!(variables().expand("{$nope}"), Err(missing));
    }

    #[test]
    fn imports_and_reads_the_query() {
        let address = Url::parse("http://h/p.m3u8?tok=a%20b").expect("a valid address");
        let mut own = Variables::default();
        own.import("host", &variables()).expect("it is defined");
        own.query("tok", &address).expect("it is in the query");
        assert_eq!(own.expand("{$host}/{$tok}").as_deref(), Ok("cdn.example/a b"));
        assert!(own.query("other", &address).is_err());
        assert!(own.import("other", &variables()).is_err());
    }

    #[test]
    fn bounds_what_substitution_makes() {
        let mut variables = Variables::default();
        variables.define("big", &"x".repeat(40_000));
        assert_eq!(variables.expand("{$big}{$big}"), Err(VariableError::TooLong));
    }
}
