//! File names with holes: DASH's `$RepresentationID$`, `$Number%05d$` and so on, ISO/IEC 23009-1 §5.3.9.4.4.

/// Which segment it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ordinal {
    /// `$Number$`.
    Number(u64),
    /// `$Time$`, in ticks.
    Time(u64),
}

/// `template` with all holes filled but number and time, which it names in a form [`ordinal`] reads; `None` if what comes
/// out isn't a path.
pub(super) fn resolve(template: &str, id: &str, bandwidth: &str) -> Option<String> {
    let mut parts = template.split('$');
    let mut resolved = parts.next()?.to_owned();
    while let Some(hole) = parts.next() {
        // A hole must be closed.
        let after = parts.next()?;
        match hole.split('%').next()? {
            "" => resolved.push_str("$$"),
            "RepresentationID" => resolved.push_str(&id.replace('$', "$$")),
            "Bandwidth" => resolved.push_str(bandwidth),
            "Number" => resolved.push_str("$Number$"),
            "Time" => resolved.push_str("$Time$"),
            _ => return None,
        }
        resolved.push_str(after);
    }
    // A name of its own directory is still a path below ours.
    let resolved = resolved.strip_prefix("./").unwrap_or(&resolved);
    super::name::checked(resolved).map(str::to_owned)
}

/// What fills the hole of a resolved `template` so that it is `path`.
pub(super) fn ordinal(template: &str, path: &str) -> Option<Ordinal> {
    let (front, back, make): (_, _, fn(u64) -> Ordinal) = match template.split_once("$Number$") {
        Some((front, back)) => (front, back, Ordinal::Number),
        None => template.split_once("$Time$").map(|(front, back)| (front, back, Ordinal::Time as fn(u64) -> _))?,
    };
    let digits = path.strip_prefix(plain(front).as_str())?.strip_suffix(plain(back).as_str())?;
    let sound = (1..=19).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    sound.then(|| digits.parse().ok())?.map(make)
}

fn plain(text: &str) -> String {
    text.replace("$$", "$")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ffmpegs_names() {
        let template = resolve("chunk-stream$RepresentationID$-$Number%05d$.m4s", "1", "64000").unwrap();
        assert_eq!(ordinal(&template, "chunk-stream1-00042.m4s"), Some(Ordinal::Number(42)));
        assert_eq!(ordinal(&template, "chunk-stream0-00042.m4s"), None);
        assert_eq!(ordinal(&template, "chunk-stream1-.m4s"), None);
        assert_eq!(ordinal(&template, "chunk-stream1-4x.m4s"), None);
        assert_eq!(ordinal(&template, "chunk-stream1-99999999999999999999.m4s"), None);
        assert_eq!(resolve("init-stream$RepresentationID$.m4s", "0", "").as_deref(), Some("init-stream0.m4s"));
    }

    #[test]
    fn others_names() {
        let template = resolve("$RepresentationID$/$Bandwidth$/t-$Time$.cmfv", "hi", "9").unwrap();
        assert_eq!(ordinal(&template, "hi/9/t-12800.cmfv"), Some(Ordinal::Time(12_800)));
        let dollars = resolve("a$$b$Number$", "", "").unwrap();
        assert_eq!(ordinal(&dollars, "a$b7"), Some(Ordinal::Number(7)));
        for wrong in ["$Number", "$SubNumber$", "../$Number$", "/x", "http://host/$Number$"] {
            assert_eq!(resolve(wrong, "", ""), None, "{wrong}");
        }
        assert_eq!(resolve("$RepresentationID$/i.mp4", "../..", ""), None);
        assert_eq!(ordinal("init.mp4", "init.mp4"), None);
    }
}
