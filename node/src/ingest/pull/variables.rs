//! EXT-X-DEFINE: variables a playlist declares and uses as `{$name}` (RFC 8216bis §4.3, §4.4.2.3).
//!
//! They are resolved here and the tags dropped, so that nobody downstream needs the multivariant playlist, or the
//! source's query string, to understand a line.

use std::collections::BTreeMap;

use url::Url;

use super::LoadError;
use super::line::{LINE_MAX, attribute, tag};

/// Names and values.
pub(super) type Variables = BTreeMap<String, String>;

/// Declarations in one playlist; more are not believed.
const VARIABLES_MAX: usize = 256;

const TOO_LARGE: LoadError = LoadError::TooLarge("too many or too long EXT-X-DEFINE variables");

/// Replaces references in `text` and drops the declarations; all other bytes stay. Returns what was declared, for the
/// media playlists to import. `imported` comes from the multivariant playlist, query parameters from `url`; `limit`
/// bounds the result, bytes.
pub(super) fn resolve(
    text: &str,
    url: &Url,
    imported: &Variables,
    limit: usize,
) -> Result<(String, Variables), LoadError> {
    let mut known = Variables::new();
    if !text.contains("#EXT-X-DEFINE") {
        return Ok((text.to_owned(), known));
    }
    let mut output = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let is_comment = line.starts_with('#') && tag(line).is_none();
        let line = if is_comment { line.to_owned() } else { substitute(line, &known, limit)? };
        match tag(line.trim_end()) {
            Some(("EXT-X-DEFINE", list)) if known.len() < VARIABLES_MAX && list.len() <= LINE_MAX => {
                declare(list, url, imported, &mut known)?;
            }
            Some(("EXT-X-DEFINE", _)) => return Err(TOO_LARGE),
            Some(_) | None => output.push_str(&line),
        }
        if output.len() > limit {
            return Err(TOO_LARGE);
        }
    }
    Ok((output, known))
}

fn declare(list: &str, url: &Url, imported: &Variables, known: &mut Variables) -> Result<(), LoadError> {
    if let Some(name) = attribute(list, "NAME") {
        known.insert(name.to_owned(), attribute(list, "VALUE").unwrap_or("").to_owned());
    } else if let Some(name) = attribute(list, "IMPORT") {
        let value = imported.get(name).ok_or_else(|| LoadError::UndefinedVariable(name.to_owned()))?;
        known.insert(name.to_owned(), value.clone());
    } else if let Some(name) = attribute(list, "QUERYPARAM") {
        let value = url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        known.insert(name.to_owned(), value.ok_or_else(|| LoadError::UndefinedVariable(name.to_owned()))?);
    }
    Ok(())
}

fn substitute(line: &str, known: &Variables, limit: usize) -> Result<String, LoadError> {
    let mut output = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, name, after)) = next_reference(rest) {
        let value = known.get(name).ok_or_else(|| LoadError::UndefinedVariable(name.to_owned()))?;
        output.push_str(before);
        output.push_str(value);
        if output.len() > limit {
            return Err(TOO_LARGE);
        }
        rest = after;
    }
    output.push_str(rest);
    Ok(output)
}

/// Splits at the first `{$name}`; names are letters, digits, `-` and `_`.
fn next_reference(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    loop {
        let at = from + text[from..].find("{$")?;
        let name_at = at + 2;
        let len = text[name_at..].find(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_')?;
        if len > 0 && text[name_at + len..].starts_with('}') {
            return Some((&text[..at], &text[name_at..name_at + len], &text[name_at + len + 1..]));
        }
        from = name_at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str) -> Result<(String, Variables), LoadError> {
        let url = Url::parse("http://host/x.m3u8?token=a%20b").unwrap();
        let imported = Variables::from([("path".to_owned(), "/cdn".to_owned())]);
        resolve(text, &url, &imported, 1000)
    }

    #[test]
    fn references_are_replaced_and_declarations_dropped() {
        let text = "#EXTM3U\r\n#EXT-X-DEFINE:NAME=\"n\",VALUE=\"v\"\r\n#EXT-X-DEFINE:IMPORT=\"path\"\n\
            #EXT-X-DEFINE:QUERYPARAM=\"token\"\n# {$n}\n#EXT-X-KEY:URI=\"{$path}/{$n}{$}{$$n}\"\r\n{$token}/a.ts";
        let expected = "#EXTM3U\r\n# {$n}\n#EXT-X-KEY:URI=\"/cdn/v{$}{$$n}\"\r\na b/a.ts";
        assert_eq!(run(text).unwrap().0, expected);
    }

    #[test]
    fn without_declarations_nothing_is_a_reference() {
        assert_eq!(run("#EXTM3U\n{$odd}.ts").unwrap().0, "#EXTM3U\n{$odd}.ts");
    }

    #[test]
    fn unknown_names_and_bombs_are_errors() {
        let undefined = run("#EXT-X-DEFINE:NAME=\"a\",VALUE=\"b\"\n{$c}.ts");
        assert!(matches!(undefined, Err(LoadError::UndefinedVariable(name)) if name == "c"));
        let bomb = format!("#EXT-X-DEFINE:NAME=\"a\",VALUE=\"{}\"\n{}", "x".repeat(100), "{$a}".repeat(100));
        assert!(matches!(run(&bomb), Err(LoadError::TooLarge(_))));
    }
}
