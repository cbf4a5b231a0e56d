//! Is it media? Servers and captive portals send error pages with status 200.

/// Whether a body begins like a media segment or an initialization section: MPEG-TS, MP4, WebVTT or packed audio
/// (RFC 8216bis §3.1). The file name's ending doesn't matter; encoders disagree about those.
pub(super) fn is_media(body: &[u8]) -> bool {
    is_transport_stream(body) || is_mp4(body) || is_webvtt(body) || is_packed_audio(body)
}

/// Whether a body that may be encrypted, and so begin with anything, is plainly a web page.
pub(super) fn is_page(body: &[u8]) -> bool {
    let head: Vec<u8> = body.trim_ascii_start().iter().take(14).map(u8::to_ascii_lowercase).collect();
    [b"<!doctype html".as_slice(), b"<html", b"<?xml", b"<head"].iter().any(|start| head.starts_with(start))
}

/// How a body begins, for an error message: printable, at most 30 characters.
pub(super) fn beginning(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(120)]);
    text.trim_start().chars().map(|c| if c.is_control() { ' ' } else { c }).take(30).collect()
}

/// At least one packet, and the sync byte in each of the first two; ISO/IEC 13818-1 §2.4.3. ("Gateway Timeout" begins
/// with a sync byte.)
fn is_transport_stream(body: &[u8]) -> bool {
    body.len() >= 188 && body[0] == 0x47 && body.get(188).is_none_or(|sync| *sync == 0x47)
}

/// A box of at least 8 bytes whose type is one that stands first in files or segments; ISO/IEC 14496-12.
fn is_mp4(body: &[u8]) -> bool {
    const FIRST: [&[u8]; 13] = [
        b"ftyp", b"styp", b"moov", b"moof", b"sidx", b"ssix", b"emsg", b"prft", b"free", b"skip", b"mdat", b"uuid",
        b"wide",
    ];
    body.get(4..8).is_some_and(|kind| FIRST.contains(&kind))
}

fn is_webvtt(body: &[u8]) -> bool {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).starts_with(b"WEBVTT")
}

/// An ID3 tag (which must come first, RFC 8216bis §3.1.3), or the sync word of ADTS or MPEG audio, or of AC-3.
fn is_packed_audio(body: &[u8]) -> bool {
    body.starts_with(b"ID3")
        || body.starts_with(&[0x0b, 0x77])
        || matches!(body, [0xff, second, ..] if second & 0xe0 == 0xe0 && *second != 0xff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_is_told_from_pages() {
        let mut packets = [0; 376];
        (packets[0], packets[188]) = (0x47, 0x47);
        assert!(is_media(&packets));
        packets[188] = 0;
        assert!(!is_media(&packets));
        for media in [
            b"\0\0\0\x18ftypiso5".as_slice(),
            b"\0\0\0\x18moof",
            b"WEBVTT\n",
            b"\xef\xbb\xbfWEBVTT",
            b"ID3\x04",
            b"\xff\xf1\x50",
        ] {
            assert!(is_media(media), "{media:?}");
        }
        for other in
            [b"<!DOCTYPE html>".as_slice(), b"", b"Gateway Timeout", b"{\"error\":1}", b"Not Found", b"\xff\xff\xff"]
        {
            assert!(!is_media(other), "{other:?}");
        }
    }

    #[test]
    fn a_page_is_a_page_even_where_anything_may_stand() {
        assert!(is_page(b"\r\n <!DocType HTML><html>"));
        assert!(is_page(b"<?xml version"));
        assert!(!is_page(b"<\x81\x12 encrypted"));
        assert_eq!(beginning(b"\n<!DOCTYPE html>\n<html lang=\"en\"><head>"), "<!DOCTYPE html> <html lang=\"en");
        assert_eq!(beginning(b""), "");
    }
}
