//! Where the one-second samples go: nowhere, into the report, or line by line into a file, so that a probe that is
//! killed leaves what it had.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{player::Sample, stats::micros};

/// What to do with the one-second samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Samples {
    /// Only summarise them.
    No,
    /// Include them in the report.
    InReport,
    /// Write each to this file when it is taken, as one line of JSON: [`SampleLine`].
    ToFile(PathBuf),
}

/// One line of the file. Times are in seconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct SampleLine {
    /// Wall clock, since 1970.
    pub wall: f64,
    /// Time since the first request.
    pub t: f64,
    /// Lag behind the capture, `null` if the playlist is not dated.
    pub lag: Option<f64>,
    /// Media ahead of the playhead.
    pub buffer: f64,
    /// The picture stands still because nothing is ahead.
    pub stalled: bool,
    /// Media bytes received since the first request.
    pub bytes: u64,
}

/// The file being written.
#[derive(Debug)]
pub(super) struct SampleFile(File);

impl Samples {
    /// The value of `--samples`: nothing or a yes or no (as in an environment variable) or the name of a file.
    ///
    /// # Errors
    /// If it is an address, which was meant to be played.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "" | "0" | "n" | "no" | "f" | "false" | "off" => Ok(Self::No),
            "1" | "y" | "yes" | "t" | "true" | "on" => Ok(Self::InReport),
            address if address.contains("://") => {
                Err("this would be the file to write to: put the address to play before --samples".into())
            }
            _ => Ok(Self::ToFile(text.into())),
        }
    }
}

impl SampleFile {
    /// Makes the file, or empties it.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        File::create(path).map(Self)
    }

    /// Writes one line, whole. The file is not buffered: one short write a second.
    pub(super) fn write(&mut self, sample: Sample) -> io::Result<()> {
        let line = SampleLine {
            wall: micros(sample.wall),
            t: sample.at.as_secs_f64(),
            lag: sample.lag.map(micros),
            buffer: sample.buffer.as_secs_f64(),
            stalled: !sample.playing,
            bytes: sample.media_bytes,
        };
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        self.0.write_all(&text)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_sample_is_a_line_that_is_there_at_once() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("samples.jsonl");
        let mut file = SampleFile::create(&path).expect("it can be made");
        let at = Duration::from_secs(3);
        let sample =
            Sample { at, wall: 1003.0, lag: Some(0.25), buffer: Duration::ZERO, playing: false, media_bytes: 7 };
        file.write(sample).expect("it can be written");
        let first = std::fs::read_to_string(&path).expect("it can be read");
        assert_eq!(first, "{\"wall\":1003.0,\"t\":3.0,\"lag\":0.25,\"buffer\":0.0,\"stalled\":true,\"bytes\":7}\n");
        file.write(Sample { lag: None, playing: true, ..sample }).expect("it can be written");
        let both = std::fs::read_to_string(&path).expect("it can be read");
        let second = both.strip_prefix(&first).expect("the first line stays");
        assert!(second.contains("\"lag\":null") && second.contains("\"stalled\":false"), "{second}");
    }

    #[test]
    fn the_option_takes_a_file_or_nothing_but_no_address() {
        assert_eq!(Samples::parse("yes"), Ok(Samples::InReport));
        assert_eq!(Samples::parse("False"), Ok(Samples::No));
        assert_eq!(Samples::parse("/tmp/Yes.jsonl"), Ok(Samples::ToFile("/tmp/Yes.jsonl".into())));
        assert!(Samples::parse("http://h/live.m3u8").is_err());
    }
}
