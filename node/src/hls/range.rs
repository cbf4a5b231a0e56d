//! The Range header: RFC 9110 §14, single byte ranges.

use std::ops::Range;

use axum::http::{HeaderMap, HeaderValue, header};

/// What part of a resource a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// All of it: no Range header, or one that is to be ignored.
    Whole,
    /// Some of it, which may be all; to be answered with 206.
    Part(Range<u64>),
    /// Nothing that exists; to be answered with 416.
    Unsatisfiable,
}

/// Reads the Range header against a resource of `len` bytes.
///
/// Several ranges at once, other units and malformed ones are ignored, which the RFC allows. So is a Range that comes
/// with If-Range: nothing here has a validator.
pub fn asked(headers: &HeaderMap, len: u64) -> Asked {
    if headers.contains_key(header::IF_RANGE) {
        return Asked::Whole;
    }
    let spec =
        headers.get(header::RANGE).and_then(|value| value.to_str().ok()).and_then(|text| text.strip_prefix("bytes="));
    let Some((first, last)) = spec.and_then(|spec| spec.trim().split_once('-')) else { return Asked::Whole };
    match (number(first), number(last)) {
        (Number::Is(first), Number::Absent) if first < len => Asked::Part(first..len),
        (Number::Is(first), Number::Is(last)) if last < first => Asked::Whole,
        (Number::Is(first), Number::Is(last)) if first < len => Asked::Part(first..last.saturating_add(1).min(len)),
        (Number::Is(_), Number::Absent | Number::Is(_)) => Asked::Unsatisfiable,
        (Number::Absent, Number::Is(suffix)) if suffix > 0 && len > 0 => Asked::Part(len.saturating_sub(suffix)..len),
        (Number::Absent, Number::Is(_)) => Asked::Unsatisfiable,
        (Number::Bad, _) | (_, Number::Bad) | (Number::Absent, Number::Absent) => Asked::Whole,
    }
}

/// The Content-Range header of a 206.
pub fn content_range(part: &Range<u64>, len: u64) -> Option<HeaderValue> {
    let last = part.end.checked_sub(1)?;
    HeaderValue::try_from(format!("bytes {}-{last}/{len}", part.start)).ok()
}

enum Number {
    Absent,
    Is(u64),
    Bad,
}

fn number(text: &str) -> Number {
    if text.is_empty() {
        return Number::Absent;
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Number::Bad;
    }
    // Digits only, so a failure is an overflow: a number larger than any length.
    Number::Is(text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked_of_100(range: &str) -> Asked {
        let value = HeaderValue::from_str(range).expect("a header");
        asked(&HeaderMap::from_iter([(header::RANGE, value)]), 100)
    }

    #[test]
    fn single_ranges() {
        assert_eq!(asked_of_100("bytes=0-"), Asked::Part(0..100));
        assert_eq!(asked_of_100("bytes=10-19"), Asked::Part(10..20));
        assert_eq!(asked_of_100("bytes=99-500"), Asked::Part(99..100));
        assert_eq!(asked_of_100("bytes=-30"), Asked::Part(70..100));
        assert_eq!(asked_of_100("bytes=-300"), Asked::Part(0..100));
        assert_eq!(asked_of_100("bytes=5-99999999999999999999999"), Asked::Part(5..100));
    }

    #[test]
    fn ranges_of_nothing() {
        for range in ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=99999999999999999999999-"] {
            assert_eq!(asked_of_100(range), Asked::Unsatisfiable, "{range}");
        }
    }

    #[test]
    fn what_is_ignored() {
        for range in ["bytes=9-3", "bytes=-", "bytes=a-b", "bytes=0-1,5-6", "items=0-1", "bytes=+1-2", "bytes", ""] {
            assert_eq!(asked_of_100(range), Asked::Whole, "{range}");
        }
        assert_eq!(asked(&HeaderMap::new(), 100), Asked::Whole);
    }
}
