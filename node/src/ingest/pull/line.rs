//! Playlist lines: taking a tag apart, and replacing one attribute in place so that all else stays as it was.

use std::ops::Range;

use url::Url;

/// Longest line that is repeated, bytes: what an announcement may carry.
pub(super) const LINE_MAX: usize = 2048;

/// The lines of a playlist without their ends; LF or CRLF, RFC 8216bis §4.1.
pub(super) fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.strip_prefix('\u{feff}').unwrap_or(text).split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line))
}

/// Name and value of a tag line: `("EXTINF", "2.0,")`; `None` for comments, URIs and blank lines.
pub(super) fn tag(line: &str) -> Option<(&str, &str)> {
    let tag = line.strip_prefix('#').filter(|tag| tag.starts_with("EXT"))?;
    Some(tag.split_once(':').unwrap_or((tag, "")))
}

/// The value called `name` in an attribute list (RFC 8216bis §4.2), without its quotes.
pub(super) fn attribute<'a>(list: &'a str, name: &str) -> Option<&'a str> {
    attributes(list).find(|(found, _)| *found == name).map(|(_, at)| &list[at])
}

/// The tag `line` with the value of attribute `name` replaced; unchanged if it has none.
pub(super) fn with_attribute(line: &str, name: &str, value: &str) -> String {
    let list_at = line.find(':').map_or(line.len(), |colon| colon + 1);
    match attributes(&line[list_at..]).find(|(found, _)| *found == name) {
        Some((_, at)) => format!("{}{value}{}", &line[..list_at + at.start], &line[list_at + at.end..]),
        None => line.to_owned(),
    }
}

/// The line can be repeated in an announcement.
pub(super) fn is_repeatable(line: &str) -> bool {
    line.len() <= LINE_MAX && !line.contains('\r')
}

/// `uri` as seen from anywhere: as written if it is absolute already, else joined to `base`, whose user name and
/// password are nobody else's business.
pub(super) fn absolute(base: &Url, uri: &str) -> Option<String> {
    if Url::parse(uri).is_ok() {
        return Some(uri.to_owned());
    }
    base.join(uri).ok().map(|url| without_login(url).into())
}

/// The URL without user name and password.
pub(super) fn without_login(mut url: Url) -> Url {
    // Both fail only for URLs that can't have a login in the first place.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

/// The URL as logs and errors show it: tokens tend to be in the query, logins before the host.
pub(super) fn shown(url: &Url) -> String {
    let mut url = without_login(url.clone());
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

/// Names and where their values stand in `list`, quotes left out. Ends at the first thing that isn't an attribute.
fn attributes(list: &str) -> impl Iterator<Item = (&str, Range<usize>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        at += list[at..].find(|c| c != ',' && c != ' ')?;
        let equals = at + list[at..].find('=')?;
        let name = list[at..equals].trim();
        let value = equals + 1;
        let range = if list[value..].starts_with('"') {
            let end = list[value + 1..].find('"').map_or(list.len(), |len| value + 1 + len);
            at = (end + 1).min(list.len());
            value + 1..end
        } else {
            let end = list[value..].find(',').map_or(list.len(), |len| value + len);
            at = end;
            value..value + list[value..end].trim_end().len()
        };
        Some((name, range))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = r#"#EXT-X-KEY:METHOD=AES-128, URI="k,=1.bin",X-NEW="a=""b", IV=0x01 "#;

    #[test]
    fn attributes_are_found_whatever_stands_in_quotes() {
        let (name, list) = tag(KEY).unwrap();
        assert_eq!(name, "EXT-X-KEY");
        assert_eq!(attribute(list, "METHOD"), Some("AES-128"));
        assert_eq!(attribute(list, "URI"), Some("k,=1.bin"));
        assert_eq!(attribute(list, "RI"), None);
    }

    #[test]
    fn replacing_one_leaves_the_rest_to_the_byte() {
        assert_eq!(with_attribute(KEY, "URI", "http://a/"), KEY.replace("k,=1.bin", "http://a/"));
        assert_eq!(with_attribute(KEY, "NONE", "x"), KEY);
        assert_eq!(with_attribute("#EXT-X-KEY", "URI", "x"), "#EXT-X-KEY");
    }

    #[test]
    fn absolute_keeps_what_is_absolute_and_hides_logins() {
        let base = Url::parse("http://user:pass@host/live/x.m3u8?token=1").unwrap();
        assert_eq!(absolute(&base, "key?k=1").as_deref(), Some("http://host/live/key?k=1"));
        assert_eq!(absolute(&base, "skd://Some-Key").as_deref(), Some("skd://Some-Key"));
        assert_eq!(absolute(&base, "HTTP://Other/%7e").as_deref(), Some("HTTP://Other/%7e"));
        assert_eq!(shown(&base), "http://host/live/x.m3u8");
    }

    #[test]
    fn lines_end_in_lf_or_crlf() {
        assert_eq!(lines("\u{feff}#EXTM3U\r\na\n\nb").collect::<Vec<_>>(), ["#EXTM3U", "a", "", "b"]);
        assert_eq!(tag("# comment"), None);
        assert_eq!(tag("#EXT-X-ENDLIST"), Some(("EXT-X-ENDLIST", "")));
    }
}
